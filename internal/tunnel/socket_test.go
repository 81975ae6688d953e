package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/app"
)

// live runs a test in fake time with a set that runs, and sees that nothing of
// it is left at the end: the bubble does not end while a goroutine lives.
func live(t *testing.T, test func(t *testing.T, set *Set)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		set := newSet()
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- set.Run(ctx) }()
		test(t, set)
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := set.Count("i1"); n != 0 {
			t.Errorf("Count after Run = %d", n)
		}
	})
}

func elapsed(t *testing.T, what string, since time.Time, want time.Duration) {
	t.Helper()
	if d := time.Since(since); d != want {
		t.Errorf("%s after %v, want %v", what, d, want)
	}
}

func TestDeadline(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		hello := frame(true, opText, true, []byte("hello"))
		write(t, r.client, hello)
		wantFrame(t, "instance", r.instance, hello)

		wantClose(t, "client", r.client, false, 1001, "deadline")
		elapsed(t, "Close", r.opened, time.Hour)
		wantClose(t, "instance", r.instance, true, 1001, "deadline")

		// What an end sends before its answer is read and goes nowhere.
		late := frame(true, opText, true, []byte("too late"))
		write(t, r.client, late, closing(true, 1001, ""))
		wantEOF(t, "client", r.client) // at once: a page learns of the end only now
		elapsed(t, "end of the client's stream", r.opened, time.Hour)
		write(t, r.instance, frame(true, opText, false, []byte("too late")), closing(false, 1001, ""))
		r.instance.CloseWrite()
		e := r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline")
		elapsed(t, "end", r.opened, time.Hour)
		wantEOF(t, "instance", r.instance)
		if e.Duration != time.Hour {
			t.Errorf("Duration = %v", e.Duration)
		}
		if want := (Traffic{Bytes: int64(len(hello) + len(late) + 8), Text: 2, Close: 1, Largest: 8}); e.FromClient != want {
			t.Errorf("FromClient = %+v, want %+v", e.FromClient, want)
		}
	})
}

func TestDeadlineMasksWithFreshKeys(t *testing.T) {
	a, b := closeFrame(1001, "deadline", true), closeFrame(1001, "deadline", true)
	if bytes.Equal(a[2:6], b[2:6]) {
		t.Errorf("two frames were masked with the same key %x", a[2:6])
	}
}

func TestGoodbyeWithoutAnswer(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		wantClose(t, "client", r.client, false, 1001, "deadline")
		wantClose(t, "instance", r.instance, true, 1001, "deadline")
		r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline")
		elapsed(t, "cut", r.opened, time.Minute+closeWait)
	})
}

func TestGoodbyeInstanceKeepsConnectionOpen(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		wantClose(t, "client", r.client, false, 1001, "deadline")
		wantClose(t, "instance", r.instance, true, 1001, "deadline")
		write(t, r.client, closing(true, 1001, ""))
		write(t, r.instance, closing(false, 1001, ""))
		r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline")
		elapsed(t, "end", r.opened, time.Minute+lingerWait)
	})
}

func TestGoodbyeWaitsForTheFrame(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		message := frame(true, opBinary, false, bytes.Repeat([]byte("x"), 300))
		write(t, r.instance, message[:100])
		time.Sleep(time.Minute + time.Second)
		wantFrame(t, "client", r.client, message[:100])
		wantClose(t, "instance", r.instance, true, 1001, "deadline")

		next := frame(true, opBinary, false, []byte("after it"))
		write(t, r.instance, append(message[100:], next...))
		wantFrame(t, "client", r.client, message[100:])
		wantClose(t, "client", r.client, false, 1001, "deadline")
		elapsed(t, "Close", r.opened, time.Minute+time.Second)
		write(t, r.client, closing(true, 1001, ""))
		write(t, r.instance, closing(false, 1001, ""))
		r.instance.CloseWrite()
		r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline")
		elapsed(t, "end", r.opened, time.Minute+time.Second)
	})
}

func TestGoodbyeBetweenFragments(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		part := frame(false, opText, false, []byte("half a mess"))
		write(t, r.instance, part)
		wantFrame(t, "client", r.client, part)
		wantClose(t, "client", r.client, false, 1001, "deadline")
		elapsed(t, "Close", r.opened, time.Minute)
	})
}

func TestGoodbyeFrameNeverEnds(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		part := frame(true, opBinary, true, bytes.Repeat([]byte("x"), 300))[:100]
		write(t, r.client, part)
		wantClose(t, "client", r.client, false, 1001, "deadline")
		write(t, r.client, part[:0])
		wantFrame(t, "instance", r.instance, part)
		wantEOF(t, "instance", r.instance) // no Close frame within another one
		elapsed(t, "cut", r.opened, time.Minute+frameWait+closeWait)
		r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline")
	})
}

func TestGoodbyeToAStalledReader(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		stopped := make(chan struct{})
		go func() { // until the socket is cut
			defer close(stopped)
			for ; ; time.Sleep(time.Millisecond) { // else fake time would stand still once it is read again
				if _, err := r.instance.Write(frame(true, opBinary, false, make([]byte, 1000))); err != nil {
					return
				}
			}
		}()
		wantClose(t, "instance", r.instance, true, 1001, "deadline")
		r.wantEnd(ByHoldfast, app.Deadline, CodeAbnormal, "")
		elapsed(t, "cut", r.opened, time.Minute+frameWait+closeWait)
		<-stopped
	})
}

func TestCloseHandshake(t *testing.T) {
	for _, from := range []side{client, instance} {
		t.Run(string(from.by()), func(t *testing.T) {
			live(t, func(t *testing.T, set *Set) {
				r := join(t, set, "s", time.Hour)
				a, b := r.client, r.instance
				if from == instance {
					a, b = b, a
				}
				bye := closing(from == client, 4001, "enough")
				write(t, a, bye)
				wantFrame(t, "other end", b, bye)
				time.Sleep(10 * time.Second)
				last := frame(true, opText, from != client, []byte("one more thing"))
				answer := closing(from != client, 4001, "")
				write(t, b, last, answer)
				wantFrame(t, "closing end", a, append(last, answer...))
				r.instance.CloseWrite()
				wantEOF(t, "client", r.client)
				r.client.CloseWrite()
				wantEOF(t, "instance", r.instance)
				r.wantEnd(from.by(), app.Closed, 4001, "enough")
				elapsed(t, "end", r.opened, 10*time.Second)
			})
		})
	}
}

func TestCloseFrameWithoutCode(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", 0)
		write(t, r.client, frame(true, opClose, true, nil))
		wantFrame(t, "instance", r.instance, frame(true, opClose, true, nil))
		write(t, r.instance, frame(true, opClose, false, nil))
		r.wantEnd(ByClient, app.Closed, CodeNone, "")
		elapsed(t, "end", r.opened, lingerWait) // nobody closed the connections
	})
}

func TestCloseFrameWithoutAnswer(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", 0)
		write(t, r.client, closing(true, 1000, "bye"))
		r.wantEnd(ByClient, app.Closed, 1000, "bye")
		elapsed(t, "end", r.opened, answerWait)
	})
}

func TestGoodbyeDuringTheClosingHandshake(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		time.Sleep(time.Minute - time.Second)
		bye := closing(true, 1000, "bye")
		write(t, r.client, bye)
		wantFrame(t, "instance", r.instance, bye)
		wantEOF(t, "instance", r.instance) // no second Close frame
		elapsed(t, "cut", r.opened, time.Minute+closeWait)
		wantEOF(t, "client", r.client)
		r.wantEnd(ByClient, app.Closed, 1000, "bye")
	})
}

func TestHalfCloseByClient(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.client.CloseWrite()
		wantEOF(t, "instance", r.instance)
		time.Sleep(time.Minute)
		m := frame(true, opText, false, []byte("still there?"))
		write(t, r.instance, m)
		wantFrame(t, "client", r.client, m)
		r.instance.CloseWrite()
		wantEOF(t, "client", r.client)
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		elapsed(t, "end", r.opened, time.Minute)
	})
}

func TestHalfCloseByInstance(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.instance.CloseWrite()
		wantEOF(t, "client", r.client)
		elapsed(t, "end of the stream", r.opened, deathNotice)
		time.Sleep(time.Minute)
		m := frame(true, opText, true, []byte("still there?"))
		write(t, r.client, m)
		wantFrame(t, "instance", r.instance, m)
		r.client.CloseWrite()
		wantEOF(t, "instance", r.instance)
		r.wantEnd(ByInstance, app.Lost, CodeAbnormal, "")
	})
}

// The instance ended its stream, is said to be dead, and meanwhile the client
// says goodbye by itself.
func TestClientClosesWhileADeathIsAwaited(t *testing.T) {
	for _, cause := range []app.Cause{"", app.Deployed, app.Crashed} {
		t.Run(string(cause), func(t *testing.T) {
			live(t, func(t *testing.T, set *Set) {
				r := join(t, set, "s", time.Hour)
				r.instance.CloseWrite()
				synctest.Wait()
				bye := closing(true, 1000, "bye")
				write(t, r.client, bye)
				wantFrame(t, "instance", r.instance, bye)
				if cause != "" {
					set.Drain("i1", time.Time{}, cause)
				}
				wantEOF(t, "client", r.client)
				elapsed(t, "end of the stream", r.opened, deathNotice)
				r.client.CloseWrite()
				want := cause
				if cause == "" {
					want = app.Lost
				}
				r.wantEnd(ByInstance, want, CodeAbnormal, "")
				elapsed(t, "end", r.opened, deathNotice)
			})
		})
	}
}

func TestDeadlineOfAHalfClosedSocket(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Minute)
		r.client.CloseWrite()
		wantEOF(t, "instance", r.instance)
		wantClose(t, "client", r.client, false, 1001, "deadline")
		r.wantEnd(ByHoldfast, app.Deadline, 1001, "deadline")
	})
}

func TestClientLost(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.client.Reset()
		wantEOF(t, "instance", r.instance)
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		elapsed(t, "end", r.opened, 0)
	})
}

func TestClientLostWhileItIsWrittenTo(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.client.in.set(func() { r.client.in.reset = true }) // writing to it fails, reading from it says nothing
		write(t, r.instance, frame(true, opText, false, []byte("hello?")))
		wantEOF(t, "instance", r.instance)
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		elapsed(t, "end", r.opened, deathNotice)
	})
}

func TestLastWordsOfAClientThatIsGone(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.client.in.set(func() { r.client.in.reset = true })
		write(t, r.instance, frame(true, opText, false, []byte("hello?")))
		synctest.Wait()
		bye := closing(true, 1000, "bye")
		write(t, r.client, bye)
		wantFrame(t, "instance", r.instance, bye)
		r.client.CloseWrite()
		wantEOF(t, "instance", r.instance)
		r.wantEnd(ByClient, app.Closed, 1000, "bye")
	})
}

func TestCrash(t *testing.T) {
	past := time.Unix(0, 0)
	half := frame(true, opText, false, []byte("last words"))[:5]
	whole := frame(true, opText, false, []byte("last words"))
	t.Run("the stream ends first", func(t *testing.T) {
		live(t, func(t *testing.T, set *Set) {
			r := join(t, set, "s", time.Hour)
			write(t, r.instance, whole)
			r.instance.Close()
			time.Sleep(deathNotice / 2)
			set.Drain("i1", past, app.Crashed)
			wantFrame(t, "client", r.client, whole)
			wantClose(t, "client", r.client, false, 1012, "crashed")
			elapsed(t, "Close", r.opened, deathNotice/2)
			write(t, r.client, closing(true, 1012, ""))
			wantEOF(t, "client", r.client)
			r.wantEnd(ByInstance, app.Crashed, 1012, "crashed")
			elapsed(t, "end", r.opened, deathNotice/2)
		})
	})
	t.Run("the notice comes first", func(t *testing.T) {
		live(t, func(t *testing.T, set *Set) {
			r := join(t, set, "s", time.Hour)
			set.Drain("i1", past, app.Crashed)
			time.Sleep(deathNotice / 2)
			write(t, r.instance, whole)
			r.instance.Close()
			wantFrame(t, "client", r.client, whole)
			wantClose(t, "client", r.client, false, 1012, "crashed")
			elapsed(t, "Close", r.opened, deathNotice/2)
			write(t, r.client, closing(true, 1012, ""))
			r.wantEnd(ByInstance, app.Crashed, 1012, "crashed")
		})
	})
	t.Run("the connection outlives it", func(t *testing.T) {
		live(t, func(t *testing.T, set *Set) {
			r := join(t, set, "s", time.Hour)
			set.Drain("i1", past, app.Crashed)
			wantClose(t, "client", r.client, false, 1012, "crashed")
			elapsed(t, "Close", r.opened, deathNotice)
			write(t, r.client, closing(true, 1012, ""))
			r.wantEnd(ByInstance, app.Crashed, 1012, "crashed")
			wantEOF(t, "instance", r.instance) // nobody is there to be told
		})
	})
	t.Run("within a frame", func(t *testing.T) {
		live(t, func(t *testing.T, set *Set) {
			r := join(t, set, "s", time.Hour)
			write(t, r.instance, half)
			r.instance.Reset()
			set.Drain("i1", past, app.Crashed)
			wantFrame(t, "client", r.client, half)
			wantEOF(t, "client", r.client)
			r.wantEnd(ByInstance, app.Crashed, CodeAbnormal, "")
			elapsed(t, "end", r.opened, 0)
		})
	})
	t.Run("after its own goodbye", func(t *testing.T) {
		live(t, func(t *testing.T, set *Set) {
			r := join(t, set, "s", time.Hour)
			bye := closing(false, 1011, "out of memory")
			write(t, r.instance, bye)
			r.instance.Close()
			wantFrame(t, "client", r.client, bye)
			set.Drain("i1", past, app.Crashed)
			wantEOF(t, "client", r.client)
			write(t, r.client, closing(true, 1011, ""))
			r.client.CloseWrite()
			r.wantEnd(ByInstance, app.Closed, 1011, "out of memory")
			elapsed(t, "end", r.opened, 0)
		})
	})
	t.Run("joined after it", func(t *testing.T) {
		live(t, func(t *testing.T, set *Set) {
			set.Drain("i1", past, app.Crashed)
			r := join(t, set, "s", time.Hour)
			r.instance.Reset()
			wantClose(t, "client", r.client, false, 1012, "crashed")
			elapsed(t, "Close", r.opened, 0)
		})
	})
}

func TestInstanceLost(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.instance.Reset()
		wantClose(t, "client", r.client, false, 1011, "lost")
		elapsed(t, "Close", r.opened, deathNotice)
		write(t, r.client, closing(true, 1011, ""))
		wantEOF(t, "client", r.client)
		r.wantEnd(ByInstance, app.Lost, 1011, "lost")
	})
}

func TestInstanceLostWhileItIsWrittenTo(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		r.instance.in.set(func() { r.instance.in.reset = true })
		write(t, r.client, frame(true, opText, true, []byte("hello?")))
		wantClose(t, "client", r.client, false, 1011, "lost")
		elapsed(t, "Close", r.opened, 2*deathNotice)
		write(t, r.client, closing(true, 1011, ""))
		r.wantEnd(ByInstance, app.Lost, 1011, "lost")
	})
}

func TestStreamEndsWhileTheInstanceDrains(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", time.Hour)
		set.Drain("i1", time.Now().Add(time.Minute), app.Deployed)
		r.instance.Close()
		wantClose(t, "client", r.client, false, 1012, "deployed")
		write(t, r.client, closing(true, 1012, ""))
		r.wantEnd(ByInstance, app.Deployed, 1012, "deployed")
	})
}

// A reader that stalls stops its writer within a bound, and nobody else.
func TestStalledReader(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r, other := join(t, set, "stalled", time.Hour), join(t, set, "other", time.Hour)
		sent := 0
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				n, err := r.instance.Write(frame(true, opBinary, false, make([]byte, 10_000)))
				if sent += n; err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		const bound = 64 << 10 // bytes, per direction
		if kept := sent - r.instance.stalled() - fakeBuffer; kept > bound {
			t.Errorf("%d bytes were taken of a writer whose reader stalls", kept)
		}
		for range 100 {
			m := frame(true, opText, true, []byte("nobody else is affected"))
			write(t, other.client, m)
			wantFrame(t, "other instance", other.instance, m)
			write(t, r.client, m)
			wantFrame(t, "the writer itself", r.instance, m)
		}
		// It goes on where it stopped.
		for range 50 {
			if g, err := readFrame(r.client); err != nil || len(g.payload) != 10_000 {
				t.Fatalf("after the stall: %d bytes, %v", len(g.payload), err)
			}
		}
		r.client.Reset()
		r.wantEnd(ByClient, app.Lost, CodeAbnormal, "")
		<-stopped
	})
}

func TestLargeFrames(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		r := join(t, set, "s", 0)
		big := frame(true, opBinary, false, bytes.Repeat([]byte("big"), 100_000)) // 64-bit length
		go r.instance.Write(big)
		wantFrame(t, "client", r.client, big)
		mixed := bytes.Join([][]byte{
			frame(false, opText, true, []byte("one ")),
			frame(true, opPing, true, []byte("?")),
			frame(false, opContinuation, true, nil),
			frame(true, opContinuation, true, []byte("message")),
			frame(true, opText, true, nil),
			frame(true, opPong, true, nil),
		}, nil)
		write(t, r.client, mixed)
		wantFrame(t, "instance", r.instance, mixed)
		r.client.Reset()
		e := r.end()
		if want := (Traffic{Bytes: int64(len(big)), Binary: 1, Largest: 300_000}); e.FromInstance != want {
			t.Errorf("FromInstance = %+v, want %+v", e.FromInstance, want)
		}
		if want := (Traffic{Bytes: int64(len(mixed)), Text: 2, Ping: 1, Pong: 1, Largest: 11}); e.FromClient != want {
			t.Errorf("FromClient = %+v, want %+v", e.FromClient, want)
		}
	})
}

func TestUnread(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		c, nearC := fakes(fakeBuffer)
		i, nearI := fakes(fakeBuffer)
		m := frame(true, opText, true, []byte("early"))
		ended := make(chan Ending, 1)
		if err := set.Join(Socket{Instance: "i1", Opened: time.Now(), Done: func(e Ending) { ended <- e }},
			Unread(nearC, m[:4]), Unread(nearI, nil)); err != nil {
			t.Fatal(err)
		}
		write(t, c, m[4:])
		wantFrame(t, "instance", i, m)
		i.CloseWrite()
		wantEOF(t, "client", c) // a half-close gets through the wrapper
		c.CloseWrite()
		if e := <-ended; e.FromClient.Bytes != int64(len(m)) || e.FromClient.Text != 1 {
			t.Errorf("FromClient = %+v", e.FromClient)
		}
	})
}

// Where a connection cannot be half closed, passing on the end of a stream
// closes it.
func TestWithoutHalfClose(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		c, nearC := net.Pipe()
		i, nearI := net.Pipe()
		ended := make(chan Ending, 1)
		sock := Socket{Instance: "i1", Opened: time.Now(), MaxAge: time.Minute, Done: func(e Ending) { ended <- e }}
		if err := set.Join(sock, nearC, nearI); err != nil {
			t.Fatal(err)
		}
		m := frame(true, opText, true, []byte("hello"))
		go c.Write(m)
		if g, err := readFrame(i); err != nil || g.payload != "hello" {
			t.Errorf("instance got %+v, %v", g, err)
		}
		i.Close()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("client: %v", err)
		}
		if e := <-ended; e.By != ByInstance || e.Cause != app.Lost {
			t.Errorf("Ending = %+v", e)
		}
	})
}

func TestGoodbyeWithoutHalfClose(t *testing.T) {
	live(t, func(t *testing.T, set *Set) {
		c, nearC := net.Pipe()
		i, nearI := net.Pipe()
		ended := make(chan Ending, 1)
		sock := Socket{Instance: "i1", Opened: time.Now(), MaxAge: time.Minute, Done: func(e Ending) { ended <- e }}
		if err := set.Join(sock, nearC, nearI); err != nil {
			t.Fatal(err)
		}
		go func() {
			readFrame(i)
			i.Write(closing(false, 1001, ""))
			i.Close()
		}()
		if g, err := readFrame(c); err != nil || g.op != 8 {
			t.Errorf("client got %+v, %v", g, err)
		}
		c.Write(closing(true, 1001, ""))
		if e := <-ended; e.By != ByHoldfast || e.Code != 1001 || e.Duration != time.Minute {
			t.Errorf("Ending = %+v", e)
		}
	})
}

func TestCloseAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := newSet() // without Run
		a, b := join(t, set, "a", 0), join(t, set, "b", 0)
		closed := make(chan error)
		go func() { closed <- set.CloseAll(t.Context(), app.ShuttingDown) }()
		for _, r := range []*rig{a, b} {
			wantClose(t, "client", r.client, false, 1001, "shutting-down")
			wantClose(t, "instance", r.instance, true, 1001, "shutting-down")
			write(t, r.client, closing(true, 1001, ""))
			write(t, r.instance, closing(false, 1001, ""))
			r.instance.CloseWrite()
			r.wantEnd(ByHoldfast, app.ShuttingDown, 1001, "shutting-down")
		}
		if err := <-closed; err != nil {
			t.Errorf("CloseAll: %v", err)
		}
		elapsed(t, "end", a.opened, 0)
		c, _ := fakes(1)
		i, far := fakes(1)
		if err := set.Join(Socket{Instance: "i1"}, c, i); !errors.Is(err, ErrClosed) {
			t.Errorf("Join after CloseAll: %v, want ErrClosed", err)
		}
		wantEOF(t, "refused instance", far)
		if err := set.CloseAll(t.Context(), app.ShuttingDown); err != nil {
			t.Errorf("second CloseAll: %v", err)
		}
	})
}

func TestCloseAllIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := newSet()
		r := join(t, set, "a", 0)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := set.CloseAll(ctx, app.ShuttingDown); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("CloseAll: %v", err)
		}
		r.wantEnd(ByHoldfast, app.ShuttingDown, 1001, "shutting-down")
		elapsed(t, "end", r.opened, time.Second)
	})
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := newSet()
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- set.Run(ctx) }()
		r := join(t, set, "a", 0)
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		r.wantEnd(ByHoldfast, app.ShuttingDown, CodeAbnormal, "")
		c, i := net.Pipe()
		if err := set.Join(Socket{}, c, i); !errors.Is(err, ErrClosed) {
			t.Errorf("Join after Run: %v", err)
		}
	})
}
