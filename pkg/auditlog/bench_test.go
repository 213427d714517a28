// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"path/filepath"
	"testing"
)

// BenchmarkWrite is a record that somebody waits for: one sync of the disk each.
func BenchmarkWrite(b *testing.B) {
	l, _ := newLog(b)
	l.Configure(toFile(filepath.Join(b.TempDir(), "audit.log")))
	for b.Loop() {
		if err := l.Write(b.Context(), record("a")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteTogether is the same for 8 workers for each processor, who share syncs.
func BenchmarkWriteTogether(b *testing.B) {
	l, _ := newLog(b)
	l.Configure(toFile(filepath.Join(b.TempDir(), "audit.log")))
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Write(b.Context(), record("a")); err != nil {
				b.Error(err)
			}
		}
	})
}
