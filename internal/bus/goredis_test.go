package bus

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// What most people in Go speak to Redis with, in both protocols: to us, and to
// a real Redis, where the same has to come out.
func TestGoRedis(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"bus", "redis"} {
		for _, proto := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, RESP %d", server, proto), func(t *testing.T) {
				t.Parallel()
				url := "redis://"
				if server == "redis" {
					url += realRedis(t)
				} else {
					w := newWorld(t)
					url = w.bus.URL(w.addr, "shop")
				}
				goRedis(t, url, proto)
			})
		}
	}
}

func goRedis(t *testing.T, url string, proto int) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := goClient(t, url, proto)
	if err := c.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	subscriptions := map[string]*redis.PubSub{
		"message":  c.Subscribe(ctx, "news", "weather"),
		"pmessage": c.PSubscribe(ctx, "n?ws"),
		"smessage": c.SSubscribe(ctx, "news"),
	}
	for kind, s := range subscriptions {
		defer s.Close()
		for range map[string]int{"message": 2, "pmessage": 1, "smessage": 1}[kind] {
			if got, err := s.Receive(ctx); err != nil {
				t.Fatalf("%s: %v, %v", kind, got, err)
			}
		}
	}
	// Several at once, as a pipeline: each says how many heard it.
	answers, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Publish(ctx, "news", "first")
		p.SPublish(ctx, "news", "second")
		p.Publish(ctx, "weather", "rain\r\n\x00")
		p.PubSubNumSub(ctx, "news", "nothing")
		p.PubSubNumPat(ctx)
		p.PubSubChannels(ctx, "*")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{2, 1, 1} {
		if got := answers[i].(*redis.IntCmd).Val(); got != want {
			t.Errorf("%v was heard by %d, want %d", answers[i].Args(), got, want)
		}
	}
	if got := answers[3].(*redis.MapStringIntCmd).Val(); got["news"] != 1 || got["nothing"] != 0 {
		t.Errorf("numsub: %v", got)
	}
	if got := answers[4].(*redis.IntCmd).Val(); got != 1 {
		t.Errorf("numpat: %d", got)
	}
	names := answers[5].(*redis.StringSliceCmd).Val()
	if slices.Sort(names); !slices.Equal(names, []string{"news", "weather"}) {
		t.Errorf("channels: %q", names)
	}
	for kind, want := range map[string][]redis.Message{
		"message":  {{Channel: "news", Payload: "first"}, {Channel: "weather", Payload: "rain\r\n\x00"}},
		"pmessage": {{Channel: "news", Pattern: "n?ws", Payload: "first"}},
		"smessage": {{Channel: "news", Payload: "second"}},
	} {
		for _, w := range want {
			got, err := subscriptions[kind].ReceiveMessage(ctx)
			if err != nil || got.Channel != w.Channel || got.Pattern != w.Pattern || got.Payload != w.Payload {
				t.Errorf("%s: got %+v, %v, want %+v", kind, got, err, w)
			}
		}
	}
	if err := subscriptions["message"].Ping(ctx, "still there?"); err != nil {
		t.Error(err)
	}
	if got, err := subscriptions["message"].Receive(ctx); err != nil || got.(*redis.Pong).Payload != "still there?" {
		t.Errorf("pong: %v, %v", got, err)
	}
	if err := subscriptions["message"].Unsubscribe(ctx, "news"); err != nil {
		t.Error(err)
	}
	if got, err := subscriptions["message"].Receive(ctx); err != nil || got.(*redis.Subscription).Count != 1 {
		t.Errorf("unsubscribe: %v, %v", got, err)
	}
}

func goClient(t *testing.T, url string, proto int) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.Protocol = proto
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// The bus ends and another one begins in its place, as when Holdfast restarts:
// the library finds it again, subscribes again, and says so.
func TestGoRedisFindsTheBusAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	path := filepath.Join(t.TempDir(), "port")
	l, _, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t, l)
	c := goClient(t, w.bus.URL(w.addr, "shop"), 3)
	s := c.Subscribe(ctx, "news")
	defer s.Close()
	arrived := s.ChannelWithSubscriptions()
	subscribed := func() {
		t.Helper()
		select {
		case m := <-arrived:
			if _, ok := m.(*redis.Subscription); !ok {
				t.Fatalf("got %v, want a subscription", m)
			}
		case <-ctx.Done():
			t.Fatal("never subscribed")
		}
	}
	subscribed()
	w.end()
	l, moved, err := Listen(path)
	if err != nil || moved {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	serve(t, l)
	subscribed()
	for heard := int64(0); heard == 0; { // the publisher's connections are found dead one by one
		heard, err = c.Publish(ctx, "news", "again").Result()
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	select {
	case m := <-arrived:
		if got, ok := m.(*redis.Message); !ok || got.Payload != "again" {
			t.Errorf("got %v", m)
		}
	case <-ctx.Done():
		t.Error("no message")
	}
	// What it is told about other commands names the way out.
	if err := c.Get(ctx, "x").Err(); err == nil || !strings.Contains(err.Error(), "messages only") {
		t.Errorf("GET: %v", err)
	}
}
