// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

const (
	ellipsis = "…"
	// maxText and maxMessage bound the texts of a record, in bytes.
	maxText    = 512
	maxMessage = 2048
)

// Encode returns the record as one line without a newline, of at most MaxLine bytes. Texts
// lose the userinfo and the query of URLs. Texts that are too long are shortened, end with
// "…", and are named in Shortened.
func Encode(r Record) ([]byte, error) {
	r.Logger, r.Schema = Logger, Schema
	r.identified()
	for divisor := 1; ; divisor *= 2 {
		made := clean(r, divisor)
		line, err := json.Marshal(made)
		if err != nil || len(line) <= MaxLine {
			return line, err
		}
		if divisor > maxText {
			return nil, fmt.Errorf("a record of type %s has %d bytes, expected at most %d", r.Type, len(line), MaxLine)
		}
	}
}

// clean returns a copy of the record whose texts are short and have no credentials.
func clean(r Record, divisor int) Record {
	c := cleaner{divisor: divisor}
	r.Actor, r.RequestedBy = c.user("actor", r.Actor), c.user("requestedBy", r.RequestedBy)
	r.Object, r.Run = c.object("object", r.Object), c.object("run", r.Run)
	if r.Policy != nil {
		p := *r.Policy
		c.texts("policy", &p.Namespace, &p.Name, &p.Mode)
		r.Policy = &p
	}
	if r.Why != nil {
		w := *r.Why
		c.texts("why", &w.Reason, &w.PreviousKeyID)
		c.text("why.message", &w.Message, maxMessage)
		r.Why = &w
	}
	if r.Checkpoint != nil {
		k := *r.Checkpoint
		c.texts("checkpoint", &k.Problem)
		r.Checkpoint = &k
	}
	c.text("keyId", &r.KeyID, maxText)
	c.text("result", &r.Result, maxText)
	c.text("reference", &r.Reference, maxText)
	r.Shortened = c.shortened
	return r
}

type cleaner struct {
	divisor   int
	shortened []string
}

func (c *cleaner) user(name string, u *User) *User {
	if u == nil {
		return nil
	}
	copied := *u
	c.texts(name, &copied.User, &copied.Basis)
	return &copied
}

func (c *cleaner) object(name string, o *Object) *Object {
	if o == nil {
		return nil
	}
	copied := *o
	c.texts(name, &copied.APIVersion, &copied.Kind, &copied.Namespace, &copied.Name, &copied.UID, &copied.ResourceVersion, &copied.Checksum)
	return &copied
}

// texts cleans several texts of one field.
func (c *cleaner) texts(name string, texts ...*string) {
	for _, text := range texts {
		c.text(name, text, maxText)
	}
}

func (c *cleaner) text(name string, text *string, limit int) {
	*text = Redacted(*text)
	limit /= c.divisor
	if len(*text) <= limit {
		return
	}
	*text = strings.ToValidUTF8((*text)[:limit], "") + ellipsis
	if len(c.shortened) == 0 || c.shortened[len(c.shortened)-1] != name {
		c.shortened = append(c.shortened, name)
	}
}

// url finds URLs: 1 is the scheme, 2 the userinfo, 3 the host and path, 4 the query.
var url = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#\s"'<>]*@)?([^?#\s"'<>]*)(?:[?#][^\s"'<>]*)?`)

// Redacted returns the text without the userinfo, query and fragment of URLs, which can have
// credentials.
func Redacted(text string) string { return url.ReplaceAllString(text, "$1$2") }
