// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/trusted-resources/chains-extension/pkg/audit"
)

// FileSettings describe the file with records.
type FileSettings struct {
	Path string
	// MaxSize is the size at which the file is rotated, in MiB.
	MaxSize int
	// MaxBackups is the number of rotated files that are kept; 0 keeps all.
	MaxBackups int
}

// file writes records to a file, and rotates it. A record is on disk when write returns.
type file struct {
	settings atomic.Pointer[FileSettings]
	rotated  func() // called after each rotation

	// The fields below belong to open, write and close, which are never called at the same
	// time.
	logger *lumberjack.Logger
	synced *os.File // the same file, because the logger does not sync
	lock   *os.File
	size   int64
}

func newFile(rotated func()) *sink {
	return &sink{
		name: fileSink, place: &file{rotated: rotated}, delay: maxDelay, most: maxBatch,
		of: func(s Settings) string { return s.File.Path },
	}
}

func (f *file) configure(settings Settings) { f.settings.Store(&settings.File) }

// open opens the file for this process alone, and completes a last line that another process
// could not end.
func (f *file) open() (last *tail, err error) {
	settings := f.settings.Load()
	if err := f.close(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := os.MkdirAll(filepath.Dir(settings.Path), 0o750); err != nil {
		return nil, err
	}
	if f.lock, err = lock(settings.Path + ".lock"); err != nil {
		return nil, err
	}
	if f.logger == nil {
		f.logger = newLogger(settings)
	}
	last, partial, err := lastRecord(settings.Path)
	if err != nil {
		return nil, err
	}
	ending := ""
	if partial {
		ending = "\n"
	}
	return last, f.store([]byte(ending))
}

// newLogger returns the writer for settings. It reads MaxBackups in a goroutine of its own, so
// another number needs another writer.
func newLogger(settings *FileSettings) *lumberjack.Logger {
	return &lumberjack.Logger{Filename: settings.Path, MaxBackups: settings.MaxBackups}
}

// lock refuses a second process, whose records would be mixed with ours.
func lock(path string) (*os.File, error) {
	held, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process writes to the file of %s; give each replica a file of its own: %w", path, err), held.Close())
	}
	return held, nil
}

// write appends lines and waits until they are on disk. After an error, the file is as
// before.
func (f *file) write(batch []entry) error {
	settings := f.settings.Load()
	content := lines(batch)
	if f.size > 0 && f.size+int64(len(content)) > int64(settings.MaxSize)<<20 {
		if err := f.rotate(settings); err != nil {
			return err
		}
	}
	before := f.size
	if err := f.store(content); err != nil {
		return errors.Join(err, f.undo(settings.Path, before))
	}
	return nil
}

// store writes and syncs content.
func (f *file) store(content []byte) error {
	// A rotation by the logger itself would not be noticed, so its own limit is larger.
	f.logger.MaxSize = f.settings.Load().MaxSize + maxBatch*audit.MaxLine>>20 + 1
	if _, err := f.logger.Write(content); err != nil {
		return err
	}
	if f.synced == nil {
		synced, err := os.Open(f.logger.Filename)
		if err != nil {
			return err
		}
		f.synced = synced
		if err := syncDirectory(f.logger.Filename); err != nil {
			return err
		}
	}
	if err := f.synced.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // a pipe cannot be synced
		return err
	}
	info, err := f.synced.Stat()
	if err != nil {
		return err
	}
	f.size = info.Size()
	return nil
}

// undo removes a part of a batch. The logger opens the file again to append to it.
func (f *file) undo(path string, size int64) error {
	err := f.logger.Close()
	if info, statErr := os.Stat(path); statErr == nil && info.Mode().IsRegular() && info.Size() > size {
		err = errors.Join(err, os.Truncate(path, size))
	}
	return err
}

func (f *file) rotate(settings *FileSettings) error {
	if f.logger.MaxBackups != settings.MaxBackups {
		if err := f.logger.Close(); err != nil {
			return err
		}
		f.logger = newLogger(settings)
	}
	if err := errors.Join(f.logger.Rotate(), f.closeSynced()); err != nil {
		return err
	}
	f.size = 0
	f.rotated()
	return nil
}

func (f *file) closeSynced() error {
	if f.synced == nil {
		return nil
	}
	err := f.synced.Close()
	f.synced = nil
	return err
}

func (f *file) close() error {
	err := f.closeSynced()
	if f.logger != nil {
		err = errors.Join(err, f.logger.Close())
	}
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
	}
	f.lock, f.size = nil, 0
	return err
}

// syncDirectory makes the name of a new file survive a crash.
func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
