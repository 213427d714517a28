// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const checksumsFile = "checksums.txt"

// file is a file of the release.
type file struct {
	name   string
	sha256 string // hexadecimal
}

// writeChecksums writes checksums.txt, in the format of sha256sum, for all files in a
// directory. It returns these files and checksums.txt itself, sorted by name.
func writeChecksums(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := make([]file, 0, len(entries)+1)
	var checksums bytes.Buffer
	for _, entry := range entries {
		digest, err := digestOf(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{entry.Name(), digest})
		fmt.Fprintf(&checksums, "%s  %s\n", digest, entry.Name())
	}
	digest := sha256.Sum256(checksums.Bytes())
	files = append(files, file{checksumsFile, hex.EncodeToString(digest[:])})
	return files, os.WriteFile(filepath.Join(dir, checksumsFile), checksums.Bytes(), 0o644)
}

func digestOf(path string) (string, error) {
	opened, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = opened.Close() }()
	digest := sha256.New()
	if _, err := io.Copy(digest, opened); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
