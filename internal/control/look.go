package control

import (
	"context"
	"reflect"
	"time"
)

// look is one turn: observe, settle, plan, act. It returns how long the next may
// wait unless something happens.
func (c *Controller) look(ctx context.Context) time.Duration {
	c.mu.Lock()
	c.takeLocked()
	expected, wishes := c.expectedLocked(), c.wishes
	c.mu.Unlock()

	listing, cancel := context.WithTimeout(ctx, listBound)
	running, err := c.driver.List(listing)
	cancel()
	if ctx.Err() != nil {
		return lookEvery
	}
	load := c.router.Load()
	c.findArtifacts(wishes, serving(wishes))

	c.mu.Lock()
	now := time.Now()
	var outcomes []outcome
	var made []*building
	if err != nil {
		// What is not known is not acted upon.
		c.log.Warn("list instances", "err", err)
	} else {
		c.observeLocked(ctx, now, running, expected, load)
		outcomes, made = c.judgeLocked(now), c.madeLocked()
	}
	c.mu.Unlock()
	c.settle(now, outcomes, made)

	c.mu.Lock()
	if c.takeLocked() { // what was settled, and what was asked for meanwhile
		c.hint() // to be judged too
	}
	var acts []func()
	next := now.Add(listRetry)
	if err == nil {
		for _, k := range c.versionKeysLocked() {
			acts = append(acts, c.planLocked(ctx, now, k)...)
		}
		acts = append(acts, c.buildLocked(ctx, now)...)
		acts = append(acts, c.breakLocked(ctx, now)...)
		next = c.nextLocked(now)
	}
	routes := c.routesLocked(now)
	wishes = c.wishes
	events, told := c.events, c.told
	c.events, c.told = nil, nil
	observed := !c.began.IsZero()
	left := !c.closing || !observed || err != nil || c.leftLocked() > 0
	c.mu.Unlock()

	// Traffic first: what leaves must get nothing new when it is told to go.
	if observed && (!c.routed || !reflect.DeepEqual(routes, c.routes)) {
		c.routes, c.routed = routes, true
		c.router.Set(routes)
	}
	for _, act := range acts {
		act()
	}
	if c.cfg.Events != nil {
		for _, e := range events {
			c.cfg.Events(e)
		}
	}
	if c.cfg.Operations != nil {
		for _, op := range told {
			c.cfg.Operations(op)
		}
	}
	if observed {
		c.show(wishes)
	}
	if !left {
		select {
		case <-c.empty:
		default:
			close(c.empty)
		}
	}
	if c.saveNext.After(now) && c.saveNext.Before(next) {
		next = c.saveNext
	}
	return max(0, time.Until(next))
}
