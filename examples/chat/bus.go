package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	publishTimeout = 2 * time.Second // then the bus is away
	beatEvery      = 2 * time.Second // an instance says so often who is there
	goneAfter      = 6 * time.Second // one that says nothing for so long is gone
	heardMax       = 1000            // envelopes that wait for the room
	settleTime     = time.Second     // the other instances answer within that
)

// An envelope is what one instance tells all of them, itself included.
type envelope struct {
	From   string    `json:"from"`             // an instance
	Said   *message  `json:"said,omitempty"`   // something was said there
	Recent []message `json:"recent,omitempty"` // what it heard lately
	Ask    bool      `json:"ask,omitempty"`    // tell me what you heard lately
	Answer bool      `json:"answer,omitempty"` // which was asked
	People *presence `json:"people,omitempty"` // who is there
}

// presence is the people of an instance: at most namesMax names, and how many
// they are.
type presence struct {
	Names []string `json:"names"`
	Count int      `json:"count"`

	at time.Time // when we were told
}

// A bus carries envelopes between the instances. It keeps nothing: who is not
// subscribed when something is published asks the others for it later. All
// instances get all envelopes in the same order.
type bus struct {
	client  *redis.Client
	channel string
}

// openBus takes the address that the environment gives. Without one there is
// no bus, and the instance is alone.
func openBus(url, prefix string) (*bus, error) {
	if url == "" {
		return nil, nil
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = publishTimeout, publishTimeout, publishTimeout
	return &bus{redis.NewClient(options), prefix + "chat"}, nil
}

// publish tells every instance, and how many heard it. It waits for
// publishTimeout at most, the library's further attempts included.
func (b *bus) publish(e envelope) (heard int64, err error) {
	text, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	return b.client.Publish(ctx, b.channel, text).Result()
}

// run carries envelopes to the room until ctx ends. The library connects again
// by itself; each time it did, something may have been missed, hence the
// exchange.
func (b *bus) run(ctx context.Context, chat *room) {
	subscription := b.client.Subscribe(ctx, b.channel)
	defer subscription.Close()
	arrived := subscription.ChannelWithSubscriptions(redis.WithChannelSize(heardMax))
	beats := time.NewTicker(beatEvery)
	defer beats.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			chat.beat()
		case m := <-arrived:
			switch m := m.(type) {
			case *redis.Subscription:
				chat.log.Info("on the bus", "channel", m.Channel)
				chat.exchange()
			case *redis.Message:
				var e envelope
				if err := json.Unmarshal([]byte(m.Payload), &e); err != nil {
					chat.log.Warn("not ours on the bus", "err", err)
					continue
				}
				chat.heard(e)
			}
		}
	}
}
