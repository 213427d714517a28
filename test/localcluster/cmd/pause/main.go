// SPDX-License-Identifier: Apache-2.0

// Command pause holds the namespaces of a Pod until the Pod ends. It is the only process of the sandbox of each Pod
// on a real node.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
}
