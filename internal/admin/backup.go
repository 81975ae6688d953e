package admin

import (
	"errors"
	"net/http"

	"holdfast/internal/app"
	"holdfast/internal/source"
)

// restoreMax bounds a backup that is restored: some trees of the largest size
// and what else there is, in bytes.
const restoreMax = 16 * source.BytesMax

// backup answers with a tar. What ends it early cuts the connection, so that
// nobody takes what came for a backup.
func (d *door) backup(w http.ResponseWriter, a *visit) error {
	leave, err := place(d.waiters, "requests that wait")
	if err != nil {
		return err
	}
	defer leave()
	ctx, stop := d.lasting(a)
	defer stop()
	out := &begun{patient: patient{w, http.NewResponseController(w)}}
	w.Header().Set("Content-Type", "application/x-tar")
	switch err := d.House.Backup(ctx, out); {
	case err == nil && !out.yes, err != nil && !out.yes:
		w.Header().Del("Content-Type")
		return errors.Join(err, ctx.Err())
	case err != nil:
		d.cfg.Log.Error("backup", "by", a.by, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// begun notes that an answer has begun.
type begun struct {
	patient
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.patient.Write(p)
}

// restore takes a backup. It reads the request as fast as it is written to disk.
func (d *door) restore(a *visit) (any, error) {
	leave, err := place(d.restores, "restores")
	if err != nil {
		return nil, err
	}
	defer leave()
	body := a.arriving(restoreMax, pieceTime)
	o, err := d.House.Restore(a.Context(), body, a.by)
	if broken := body.broken(); err != nil && broken != nil && !errors.Is(err, app.ErrBusy) {
		return nil, broken
	}
	return accepted(o, err)
}
