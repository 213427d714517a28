// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWarning_ShortensLongMessages(t *testing.T) {
	message := Warning("Reason", strings.Repeat("é", 2000)).Message
	if len(message) > maxMessage || !utf8.ValidString(message) || !strings.HasSuffix(message, "…") {
		t.Errorf("%d bytes, valid UTF-8: %v, ends in %q", len(message), utf8.ValidString(message), message[len(message)-6:])
	}
}
