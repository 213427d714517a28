// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// input is a file that is being read.
type input struct {
	File

	reader *bufio.Reader
	first  *Record // nil if the first line is no record
	line   int
	// group is the name without the time of the rotation; rotated is that time, and zero for
	// the file that is written to.
	group   string
	rotated time.Time
	// oldest says that no file of the group has earlier records.
	oldest bool
	// expected is the name of the file that should have these records; empty if this one.
	expected string
}

// rotatedName is a name that the controller gives to a rotated file: 1 and 3 enclose the time.
var rotatedName = regexp.MustCompile(`^(.*)-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3})(\.[^.]*)?$`)

const rotatedTime = "2006-01-02T15-04-05.000"

func newInput(f File) (*input, error) {
	in := &input{File: f, reader: bufio.NewReaderSize(f.Content, MaxLine+1), group: filepath.Clean(f.Name)}
	if parts := rotatedName.FindStringSubmatch(in.group); parts != nil {
		if at, err := time.Parse(rotatedTime, parts[2]); err == nil {
			in.group, in.rotated = parts[1]+parts[3], at
		}
	}
	begin, err := in.reader.Peek(MaxLine + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", f.Name, err)
	}
	line, _, _ := bytes.Cut(begin, []byte("\n"))
	in.first, _ = Parse(line) // nil: the line is reported when it is its turn
	return in, nil
}

// order returns the files in the order of the times of their first records, and finds files
// whose names say another order.
func order(files []File) ([]*input, error) {
	all := make([]*input, 0, len(files))
	for _, f := range files {
		in, err := newInput(f)
		if err != nil {
			return nil, err
		}
		all = append(all, in)
	}
	slices.SortStableFunc(all, func(a, b *input) int {
		switch {
		case a.first == nil || b.first == nil:
			return byName(a, b)
		case a.first.Stream == b.first.Stream:
			return cmp.Or(a.first.Time.Compare(b.first.Time), cmp.Compare(a.first.Seq, b.first.Seq))
		}
		return a.first.Time.Compare(b.first.Time)
	})
	groups := map[string][]*input{}
	for _, in := range all {
		in.oldest = len(groups[in.group]) == 0
		groups[in.group] = append(groups[in.group], in)
	}
	for _, group := range groups {
		named := slices.SortedStableFunc(slices.Values(group), byName)
		for i, in := range group {
			if named[i] != in {
				in.expected = named[i].Name
			}
		}
	}
	return all, nil
}

// byName orders rotated files by time, before the file that is written to.
func byName(a, b *input) int {
	if a.rotated.IsZero() != b.rotated.IsZero() {
		if a.rotated.IsZero() {
			return 1
		}
		return -1
	}
	return a.rotated.Compare(b.rotated)
}

var (
	errLong  = fmt.Errorf("the line has more than %d bytes", MaxLine)
	errEnded = errors.New("the line does not end")
)

// next returns the next line without its newline. The line is valid until the next call. The
// error is errLong, errEnded (with the line) or io.EOF, or the file cannot be read.
func (in *input) next() ([]byte, error) {
	line, err := in.reader.ReadSlice('\n')
	switch {
	case err == nil:
		in.line++
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		in.line++
		return nil, in.skipLine()
	case errors.Is(err, io.EOF) && len(line) > 0:
		in.line++
		return line, errEnded
	}
	return nil, err
}

// skipLine reads up to the end of a line, and returns errLong.
func (in *input) skipLine() error {
	for {
		_, err := in.reader.ReadSlice('\n')
		switch {
		case err == nil, errors.Is(err, io.EOF):
			return errLong
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}
