package disk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Numbers of the NBD protocol (doc/proto.md).
const (
	magicInit   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption = 0x49484156454f5054 // "IHAVEOPT"
	magicReply  = 0x0003e889045565a9
	magicAsk    = 0x25609513
	magicAnswer = 0x67446698

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optExportName = 1
	optAbort      = 2
	optList       = 3
	optInfo       = 6
	optGo         = 7

	repAck      = 1
	repServer   = 2
	repInfo     = 3
	repErrUnsup = 1<<31 + 1

	infoExport    = 0
	infoBlockSize = 3

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6

	cmdFlagFUA = 1 << 0

	// has flags, flush, FUA, trim, write zeroes, safe with many connections
	exportFlags = 1<<0 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<8

	errIO    = 5
	errInval = 22
	errNoSpc = 28

	maxOption  = 4 << 10
	maxPayload = 32 << 20
)

var be = binary.BigEndian

// errEnd is an orderly end of a connection.
var errEnd = errors.New("client left")

func (d *Disk) serve(c net.Conn) {
	defer func() {
		d.mu.Lock()
		delete(d.conns, c)
		d.mu.Unlock()
		c.Close()
	}()
	r, w := bufio.NewReaderSize(c, 256<<10), bufio.NewWriterSize(c, 256<<10)
	err := d.handshake(r, w)
	for err == nil {
		err = d.request(c, r, w)
	}
	if !errors.Is(err, errEnd) && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		d.log.Debug("disk connection ended", "err", err)
	}
}

// handshake negotiates in the fixed newstyle until the client chooses the
// export; its name does not matter, there is one disk a socket.
func (d *Disk) handshake(r *bufio.Reader, w *bufio.Writer) error {
	hello := be.AppendUint64(nil, magicInit)
	hello = be.AppendUint64(hello, magicOption)
	hello = be.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if err := send(w, hello); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(r, flags[:]); err != nil {
		return err
	}
	noZeroes := be.Uint32(flags[:])&flagNoZeroes != 0
	for {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		if be.Uint64(head[:]) != magicOption {
			return errors.New("option without magic")
		}
		opt, n := be.Uint32(head[8:]), be.Uint32(head[12:])
		if n > maxOption {
			return fmt.Errorf("option of %d bytes", n)
		}
		if _, err := r.Discard(int(n)); err != nil {
			return err
		}
		done, err := d.option(w, opt, noZeroes)
		if done || err != nil {
			return err
		}
	}
}

// option answers one option; done means that transmission begins.
func (d *Disk) option(w *bufio.Writer, opt uint32, noZeroes bool) (done bool, err error) {
	export := be.AppendUint64(nil, uint64(d.cfg.Size))
	export = be.AppendUint16(export, exportFlags)
	switch opt {
	case optExportName:
		if !noZeroes {
			export = append(export, make([]byte, 124)...)
		}
		return true, send(w, export)
	case optAbort:
		_ = send(w, optReply(opt, repAck, nil))
		return false, errEnd
	case optList:
		return false, send(w, optReply(opt, repServer, make([]byte, 4)), optReply(opt, repAck, nil))
	case optInfo, optGo:
		sizes := be.AppendUint16(nil, infoBlockSize)
		sizes = be.AppendUint32(sizes, uint32(d.cfg.SectorSize))
		sizes = be.AppendUint32(sizes, 4096)
		sizes = be.AppendUint32(sizes, maxPayload)
		err := send(w, optReply(opt, repInfo, append([]byte{0, infoExport}, export...)),
			optReply(opt, repInfo, sizes), optReply(opt, repAck, nil))
		return opt == optGo, err
	default:
		return false, send(w, optReply(opt, repErrUnsup, nil))
	}
}

func optReply(opt, kind uint32, data []byte) []byte {
	b := be.AppendUint64(nil, magicReply)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, kind)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func send(w *bufio.Writer, parts ...[]byte) error {
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Flush()
}

// ask is one request of the transmission phase.
type ask struct {
	flags, kind uint16
	cookie      uint64
	off         uint64
	n           uint32
}

func (d *Disk) request(c net.Conn, r *bufio.Reader, w *bufio.Writer) error {
	var head [28]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if be.Uint32(head[:]) != magicAsk {
		return errors.New("request without magic")
	}
	a := ask{be.Uint16(head[4:]), be.Uint16(head[6:]), be.Uint64(head[8:]), be.Uint64(head[16:]), be.Uint32(head[24:])}
	if (a.kind == cmdRead || a.kind == cmdWrite) && a.n > maxPayload {
		return fmt.Errorf("request of %d bytes", a.n)
	}
	var data []byte
	switch a.kind {
	case cmdDisc:
		return errEnd
	case cmdRead, cmdWrite:
		data = make([]byte, a.n)
	}
	if a.kind == cmdWrite {
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
	}
	code, err := d.do(c, a, data)
	if err != nil {
		return err
	}
	answer := be.AppendUint32(nil, magicAnswer)
	answer = be.AppendUint32(answer, code)
	answer = be.AppendUint64(answer, a.cookie)
	if a.kind != cmdRead || code != 0 {
		data = nil
	}
	return send(w, answer, data)
}

// do carries a request out and returns NBD's error code. An error means that
// the connection is over: its disk has lost power since.
func (d *Disk) do(c net.Conn, a ask, data []byte) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, alive := d.conns[c]; !alive {
		return 0, net.ErrClosed
	}
	if code := d.check(a); code != 0 {
		d.stats.Errors++
		return code, nil
	}
	if err := d.carryOut(a, data); err != nil {
		d.log.Error("disk request", "err", err)
		d.stats.Errors++
		return errIO, nil
	}
	return 0, nil
}

// check refuses what lies outside, is not aligned, or hits an injected fault.
func (d *Disk) check(a ask) uint32 {
	size, sector := uint64(d.cfg.Size), uint64(d.cfg.SectorSize)
	if a.kind == cmdFlush {
		return 0
	}
	if a.kind > cmdWriteZeroes || a.kind == 5 || a.off%sector != 0 || uint64(a.n)%sector != 0 {
		return errInval
	}
	if a.off > size || uint64(a.n) > size-a.off {
		if a.kind == cmdRead {
			return errInval
		}
		return errNoSpc
	}
	for _, f := range d.faults {
		hit := int64(a.off) < f.Offset+f.Length && f.Offset < int64(a.off)+int64(a.n)
		if hit && (a.kind == cmdRead && f.Read || a.kind != cmdRead && f.Write) {
			return errIO
		}
	}
	return 0
}

func (d *Disk) carryOut(a ask, data []byte) error {
	off, n := int64(a.off), int64(a.n)
	var err error
	switch a.kind {
	case cmdRead:
		d.stats.Reads++
		d.stats.BytesRead += n
		return d.cache.read(data, off)
	case cmdFlush:
		d.stats.Flushes++
		return d.cache.flush()
	case cmdWrite:
		d.stats.Writes++
		d.stats.BytesWritten += n
		err = d.cache.write(data, off, n)
	case cmdTrim:
		d.stats.Trims++
		err = d.cache.write(nil, off, n)
	case cmdWriteZeroes:
		d.stats.Zeroes++
		d.stats.BytesZeroed += n
		err = d.cache.write(nil, off, n)
	}
	if err == nil && a.flags&cmdFlagFUA != 0 {
		err = d.cache.flushRange(off, n)
	}
	return err
}
