package store

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
)

// # Reading a file without trusting it
//
// bbolt maps its file into memory and believes it: a damaged page number makes it
// touch memory that is not there, a loop of pages never ends, and part of that
// happens in goroutines of its own, where no caller can recover. It also passes
// over a damaged meta page in silence and goes on from the older one. So before
// bbolt may open a file, the bytes of the file are read here, as plain bytes, with
// every offset checked and every page visited at most once; what comes out is what
// bbolt would find, or the reason why not. The format is bbolt's version 2:
//
//	page    id u64, flags u16, count u16, overflow u32, then by its kind
//	meta    magic, version, page size, flags u32; root, sequence, freelist, high water mark, txid, checksum u64
//	branch  count × (pos, ksize u32, page u64), keys     pos counts from the element's own beginning
//	leaf    count × (flags, pos, ksize, vsize u32), keys and values
//	bucket  as a value: root, sequence u64; root 0: a leaf page follows
//	freelist  count × u64; a count of 0xffff says that the first of them is the count

const (
	pageHeader = 16
	metaBytes  = 64
	element    = 16

	kindBranch   = 0x01
	kindLeaf     = 0x02
	kindFreelist = 0x10

	leafBucket = 0x01 // flag of a leaf element

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	pageBytesMin = 1 << 10
	pageBytesMax = 1 << 24 // what bbolt would look for

	// depthMax bounds the way from the root to a leaf. bbolt halves a page that is
	// full, so that one of 4 KiB has dozens of children: 32 floors cannot be full.
	depthMax = 32
)

var order = binary.NativeEndian

// image is what a bbolt file says.
type image struct {
	stored  map[id][]byte // every value, with its seal; shares the file's bytes
	settled bool          // both meta pages lead to it: one may be lost
	size    int64         // bytes of the file that are in use
	txid    uint64        // of the latest transaction
}

type meta struct {
	pageSize                        uint64
	root, freelist, highWater, txid uint64
}

func readMeta(page []byte) (m meta, ok bool) {
	if len(page) < pageHeader+metaBytes {
		return m, false
	}
	b := page[pageHeader:]
	h := fnv.New64a()
	h.Write(b[:metaBytes-8])
	if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion || order.Uint64(b[56:]) != h.Sum64() {
		return m, false
	}
	return meta{uint64(order.Uint32(b[8:])), order.Uint64(b[16:]), order.Uint64(b[32:]), order.Uint64(b[40:]), order.Uint64(b[48:])}, true
}

// readImage reads the bytes of a file. An error says what is wrong with them.
func readImage(b []byte) (image, error) {
	first, ok0 := readMeta(b)
	second, ok1 := meta{}, false
	for size := uint64(pageBytesMin); size <= pageBytesMax && size < uint64(len(b)) && !ok1; size *= 2 {
		if ok0 && size != first.pageSize {
			continue // by the first one the second stands elsewhere
		}
		second, ok1 = readMeta(b[size:])
		if ok1 && second.pageSize != size {
			return image{}, fmt.Errorf("the meta page at %d says that pages have %d bytes", size, second.pageSize)
		}
	}
	if ok0 && (first.pageSize < pageBytesMin || first.pageSize > pageBytesMax || first.pageSize&(first.pageSize-1) != 0) {
		return image{}, fmt.Errorf("its first meta page says that pages have %d bytes", first.pageSize)
	}
	m := first
	switch {
	case !ok0 && !ok1:
		return image{}, fmt.Errorf("neither of its two first pages is a bbolt meta page")
	case !ok0 || ok1 && second.txid > first.txid:
		m = second
	}
	if m.highWater < 4 || m.highWater > uint64(len(b))/m.pageSize {
		return image{}, fmt.Errorf("it is cut off: it has %d bytes and should have %d pages of %d", len(b), m.highWater, m.pageSize)
	}
	im := image{
		stored:  map[id][]byte{},
		settled: ok0 && ok1 && first.root == second.root && max(first.txid, second.txid)-min(first.txid, second.txid) == 1,
		size:    int64(m.highWater * m.pageSize),
		txid:    m.txid,
	}
	w := walk{b: b, pageSize: m.pageSize, highWater: m.highWater, seen: make([]bool, m.highWater)}
	w.seen[0], w.seen[1] = true, true
	if err := w.tree(m.root, 0, w.bucket(im.stored)); err != nil {
		return image{}, err
	}
	if err := w.freelist(m.freelist); err != nil {
		return image{}, err
	}
	return im, nil
}

// walk goes through the pages of a file.
type walk struct {
	b                   []byte
	pageSize, highWater uint64
	seen                []bool // by page: it is in use
}

// page is one page with what overflows from it.
func (w *walk) page(n uint64) (kind uint16, p []byte, err error) {
	if n >= w.highWater {
		return 0, nil, fmt.Errorf("page %d is beyond the end (%d)", n, w.highWater)
	}
	p = w.b[n*w.pageSize:]
	pages := uint64(order.Uint32(p[12:])) + 1
	if pages > w.highWater-n {
		return 0, nil, fmt.Errorf("page %d reaches beyond the end", n)
	}
	if itself := order.Uint64(p); itself != n {
		return 0, nil, fmt.Errorf("page %d says that it is page %d", n, itself)
	}
	for i := n; i < n+pages; i++ {
		if w.seen[i] {
			return 0, nil, fmt.Errorf("page %d is used twice", i)
		}
		w.seen[i] = true
	}
	return order.Uint16(p[8:]), p[:pages*w.pageSize], nil
}

// visit is called for each entry of a leaf.
type visit func(flags uint32, key, value []byte) error

// tree visits all entries below page n in order. bbolt relies on it that a
// branch names each child by the child's first key; were it another one, a later
// change would leave a stale entry.
func (w *walk) tree(n uint64, depth int, fn visit) error {
	kind, p, err := w.page(n)
	if err != nil {
		return err
	}
	if kind != kindBranch {
		return entries(n, kind, p, fn)
	}
	count := int(order.Uint16(p[10:]))
	if depth == depthMax || count == 0 {
		return fmt.Errorf("page %d is a branch that leads nowhere", n)
	}
	if uint64(len(p)) < pageHeader+uint64(count)*element {
		return fmt.Errorf("page %d has more entries than room", n)
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*element
		key, ok := slice(p, at, order.Uint32(p[at:]), order.Uint32(p[at+4:]))
		if !ok || len(key) == 0 || last != nil && slices.Compare(last, key) >= 0 {
			return fmt.Errorf("page %d: the key of entry %d is wrong", n, i)
		}
		last = key
		child := order.Uint64(p[at+8:])
		begins, err := w.firstKey(child)
		if err != nil {
			return err
		}
		if !slices.Equal(begins, key) {
			return fmt.Errorf("page %d: page %d does not begin with the key of entry %d", n, child, i)
		}
		if err := w.tree(child, depth+1, fn); err != nil {
			return err
		}
	}
	return nil
}

// firstKey is the first key on page n, nil if there is none.
func (w *walk) firstKey(n uint64) ([]byte, error) {
	if n >= w.highWater {
		return nil, fmt.Errorf("page %d is beyond the end (%d)", n, w.highWater)
	}
	p := w.b[n*w.pageSize:]
	p = p[:min((uint64(order.Uint32(p[12:]))+1)*w.pageSize, uint64(len(p)))]
	if order.Uint16(p[10:]) == 0 {
		return nil, nil
	}
	e := p[pageHeader:]
	pos, size := order.Uint32(e), order.Uint32(e[4:])
	if order.Uint16(p[8:]) == kindLeaf {
		pos, size = order.Uint32(e[4:]), order.Uint32(e[8:])
	}
	key, _ := slice(p, pageHeader, pos, size)
	return key, nil
}

// entries visits the entries of a leaf.
func entries(n uint64, kind uint16, p []byte, fn visit) error {
	count := int(order.Uint16(p[10:]))
	if kind != kindLeaf {
		return fmt.Errorf("page %d is of kind %#x and should have entries", n, kind)
	}
	if len(p) < pageHeader+count*element {
		return fmt.Errorf("page %d has more entries than room", n)
	}
	for i := range count {
		at := pageHeader + i*element
		pos, size := order.Uint32(p[at+4:]), order.Uint32(p[at+8:])
		key, ok := slice(p, at, pos, size)
		value, fits := slice(p, at, pos+size, order.Uint32(p[at+12:]))
		if !ok || !fits || len(key) == 0 || pos+size < pos {
			return fmt.Errorf("page %d: entry %d reaches beyond it", n, i)
		}
		if err := fn(order.Uint32(p[at:]), key, value); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
	}
	return nil
}

// slice is size bytes of p, pos bytes after at.
func slice(p []byte, at int, pos, size uint32) ([]byte, bool) {
	from := uint64(at) + uint64(pos)
	to := from + uint64(size)
	if to > uint64(len(p)) {
		return nil, false
	}
	return p[from:to:to], true
}

// bucket is the visit of the file's root, whose entries are buckets; their
// entries are put into stored.
func (w *walk) bucket(stored map[id][]byte) visit {
	var lastName []byte
	return func(flags uint32, name, value []byte) error {
		if flags != leafBucket || len(value) < 16 {
			return fmt.Errorf("%q is not a bucket", name)
		}
		if lastName != nil && slices.Compare(lastName, name) >= 0 {
			return fmt.Errorf("bucket %q is out of order", name)
		}
		lastName = name
		var last []byte
		record := func(flags uint32, key, value []byte) error {
			if flags != 0 {
				return fmt.Errorf("%q has an entry that is not a record", name)
			}
			if last != nil && slices.Compare(last, key) >= 0 {
				return fmt.Errorf("%q: entry %q is out of order", name, key)
			}
			last = key
			stored[id{string(name), string(key)}] = value
			return nil
		}
		if root := order.Uint64(value); root != 0 {
			return w.tree(root, 0, record)
		}
		page := value[16:] // a small bucket is kept within its parent
		if len(page) < pageHeader {
			return fmt.Errorf("bucket %q is cut off", name)
		}
		return entries(0, order.Uint16(page[8:]), page, record)
	}
}

// freelist checks the list of free pages, from which bbolt takes what it writes
// to: a page in it that is in use would be written over.
func (w *walk) freelist(n uint64) error {
	kind, p, err := w.page(n)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	count, at := uint64(order.Uint16(p[10:])), uint64(pageHeader)
	if count == 0xffff {
		count, at = order.Uint64(p[at:]), at+8
	}
	if kind != kindFreelist || count > (uint64(len(p))-at)/8 {
		return fmt.Errorf("page %d is not a list of free pages", n)
	}
	for i := range count {
		free := order.Uint64(p[at+8*i:])
		if free >= w.highWater || w.seen[free] {
			return fmt.Errorf("list of free pages: page %d is in use, named twice or beyond the end", free)
		}
		w.seen[free] = true
	}
	return nil
}
