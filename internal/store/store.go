// Package store keeps what operators asked for: applications, services,
// versions and operations, in one file, changed by transactions. It knows
// nothing of what runs, how it feels or what it carries; nobody keeps those
// truths on disk. Start at Wishes, then Store.
package store

import (
	"maps"
	"reflect"
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

func (w Wishes) clone() Wishes {
	return Wishes{maps.Clone(w.Apps), maps.Clone(w.Services), maps.Clone(w.Versions), maps.Clone(w.Operations)}
}

// Store holds Wishes. All methods may be called from several goroutines.
type Store struct {
	writing sync.Mutex // held by Update, around mu: one transaction at a time

	mu      sync.Mutex // guards the following
	wishes  Wishes
	changed chan struct{} // closed at the next change
}

// Memory is a store without a file: what it was told ends with it.
func Memory() *Store {
	return &Store{
		wishes: Wishes{
			Apps:       map[string]app.Application{},
			Services:   map[app.ServiceKey]app.Service{},
			Versions:   map[app.Key]app.Version{},
			Operations: map[string]app.Operation{},
		},
		changed: make(chan struct{}),
	}
}

// Wishes is what holds now. It does not block.
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
// call Update. Updates wait for each other.
func (s *Store) Update(fn func(w *Wishes) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	before := s.Wishes()
	after := before.clone()
	if err := fn(&after); err != nil {
		return err
	}
	if reflect.DeepEqual(before, after) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wishes = after
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}
