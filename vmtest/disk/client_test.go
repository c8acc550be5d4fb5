package disk

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// client is a small NBD client, written from the protocol's description apart
// from the server, so that a shared misunderstanding is less likely.
type client struct {
	t    *testing.T
	c    net.Conn
	size uint64
	blk  uint32
}

func dial(t *testing.T, d *Disk) *client {
	t.Helper()
	c, err := net.Dial("unix", d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k := &client{t: t, c: c}
	k.expect(18)
	k.send(be.AppendUint32(nil, 3))
	opt := be.AppendUint64(nil, magicOption)
	opt = be.AppendUint32(opt, optGo)
	opt = be.AppendUint32(opt, 6)
	k.send(append(opt, make([]byte, 6)...))
	for {
		head := k.expect(20)
		data := k.expect(int(be.Uint32(head[16:])))
		switch be.Uint32(head[12:]) {
		case repInfo:
			if be.Uint16(data) == infoExport {
				k.size = be.Uint64(data[2:])
			} else {
				k.blk = be.Uint32(data[2:])
			}
		case repAck:
			return k
		default:
			t.Fatalf("option reply %x", head)
		}
	}
}

func (k *client) send(b []byte) {
	k.t.Helper()
	if _, err := k.c.Write(b); err != nil {
		k.t.Fatal(err)
	}
}

func (k *client) expect(n int) []byte {
	k.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(k.c, b); err != nil {
		k.t.Fatal(err)
	}
	return b
}

// ask sends a request and returns NBD's error code and, of a read, the data.
func (k *client) ask(kind, flags uint16, off uint64, n uint32, data []byte) (uint32, []byte) {
	k.t.Helper()
	b := be.AppendUint32(nil, magicAsk)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, kind)
	b = be.AppendUint64(b, 77)
	b = be.AppendUint64(b, off)
	b = be.AppendUint32(b, n)
	k.send(append(b, data...))
	head := k.expect(16)
	if be.Uint32(head) != magicAnswer || be.Uint64(head[8:]) != 77 {
		k.t.Fatalf("answer %x", head)
	}
	if code := be.Uint32(head[4:]); code != 0 || kind != cmdRead {
		return code, nil
	}
	return 0, k.expect(int(n))
}

func (k *client) write(off int64, data []byte, flags uint16) {
	k.t.Helper()
	if code, _ := k.ask(cmdWrite, flags, uint64(off), uint32(len(data)), data); code != 0 {
		k.t.Fatalf("write at %d: error %d", off, code)
	}
}

func (k *client) flush() {
	k.t.Helper()
	if code, _ := k.ask(cmdFlush, 0, 0, 0, nil); code != 0 {
		k.t.Fatalf("flush: error %d", code)
	}
}

func (k *client) read(off int64, n int) []byte {
	k.t.Helper()
	code, data := k.ask(cmdRead, 0, uint64(off), uint32(n), nil)
	if code != 0 {
		k.t.Fatalf("read at %d: error %d", off, code)
	}
	return data
}

func open(t *testing.T, edit func(*Config)) *Disk {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Path: dir + "/d.raw", Socket: dir + "/s", Size: 64 << 20, Seed: 1}
	if edit != nil {
		edit(&cfg)
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// fill makes n bytes in which every sector says where it is and which
// generation wrote it.
func fill(off int64, n int, gen byte) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += unit {
		copy(b[i:], fmt.Sprintf("%d@%d", gen, off+int64(i)))
		b[i+unit-1] = gen
	}
	return b
}
