// Package store keeps what operators asked for: applications, services,
// versions and operations, in one file, changed by transactions. It knows
// nothing of what runs, how it feels or what it carries; nobody keeps those
// truths on disk. Start at Wishes, then Store and Open. How a file stays whole,
// and is never half believed, is told at the head of file.go and image.go.
package store

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"holdfast/internal/app"
)

// Wishes is everything that was asked for, as one plain value. What a Store
// hands out is replaced, never changed in place: its maps must not be written
// to, and stay as they are for whoever holds them. What Update hands to its
// function is a copy to write to; the values in the maps are still shared and
// are replaced, not changed.
type Wishes struct {
	Apps       map[string]app.Application
	Services   map[app.ServiceKey]app.Service
	Versions   map[app.Key]app.Version
	Operations map[string]app.Operation // those under way, and the latest that are done
}

func nothing() Wishes {
	return Wishes{
		Apps:       map[string]app.Application{},
		Services:   map[app.ServiceKey]app.Service{},
		Versions:   map[app.Key]app.Version{},
		Operations: map[string]app.Operation{},
	}
}

func (w Wishes) clone() Wishes {
	return Wishes{maps.Clone(w.Apps), maps.Clone(w.Services), maps.Clone(w.Versions), maps.Clone(w.Operations)}
}

// Store holds Wishes. All methods may be called from several goroutines.
type Store struct {
	writing sync.Mutex // held by Update, around mu: one transaction at a time; guards the following
	disk    *disk      // nil: in memory only
	closed  bool

	mu      sync.Mutex // guards the following
	wishes  Wishes
	changed chan struct{} // closed at the next change
}

// Memory is a store without a file: what it was told ends with it.
func Memory() *Store {
	return &Store{wishes: nothing(), changed: make(chan struct{})}
}

// Wishes is what holds now. It does not block, and works after Close too.
func (s *Store) Wishes() Wishes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wishes
}

// Changed is closed when Wishes differ from what they were at the call. Take
// it before looking.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Update changes the wishes in one transaction: fn writes to w what shall hold,
// and when it returns nil and Update does too, that is kept, whatever happens to
// the machine. When either returns an error nothing has changed. fn must not
// call Update. Updates wait for each other, and for the disk.
//
// What is kept is what a file can give back: times lose their monotonic clock
// and the name of their zone, texts that are not UTF-8 their odd bytes. What
// cannot be kept at all, such as a version under another's key, is refused with
// app.ErrInvalid. After a failure of the disk, the next Update tries again.
func (s *Store) Update(fn func(w *Wishes) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return errors.New("change the wishes: the store is closed")
	}
	before := s.Wishes()
	after := before.clone()
	if err := fn(&after); err != nil {
		return err
	}
	changes, err := after.since(before)
	if err != nil {
		return fmt.Errorf("change the wishes: %w", err)
	}
	if len(changes) == 0 {
		return nil
	}
	if s.disk != nil {
		if err := s.disk.write(changes, before); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wishes = after
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Replace changes the wishes to w as a whole, in one transaction, as restoring a
// snapshot does. All of w is checked before anything is written. Whoever calls
// it keeps w, and must not write to it any more.
func (s *Store) Replace(w Wishes) error {
	return s.Update(func(now *Wishes) error {
		*now = w.clone()
		return nil
	})
}

// Close waits for an Update under way, then lets the file go; another Store may
// open it. Later Updates fail. It may be called again.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.disk == nil {
		return nil
	}
	return s.disk.close()
}
