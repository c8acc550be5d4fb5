package ipmi

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/ingot-metal/ingot/controller/power"
)

// The shape of an RMCP+ packet (IPMI 2.0, table 13-8).
const (
	rmcpSize    = 4                     // version, reserved, sequence, class
	headerSize  = 12                    // session header behind it
	payloadAt   = rmcpSize + headerSize // where the payload begins
	nextHeader  = 0x07
	classIPMI   = 0x07
	authRMCPP   = 0x06
	flagSecret  = 0x80
	flagSigned  = 0x40
	typeMask    = 0x3f
	aesBlock    = 16
	minResponse = 8 // of a decrypted IPMI message
)

// answers names the payload type that answers each one we send.
var answers = map[byte]byte{
	byte(types.PayloadTypeIPMI):                   byte(types.PayloadTypeIPMI),
	byte(types.PayloadTypeRmcpOpenSessionRequest): byte(types.PayloadTypeRmcpOpenSessionResponse),
	byte(types.PayloadTypeRAKPMessage1):           byte(types.PayloadTypeRAKPMessage2),
	byte(types.PayloadTypeRAKPMessage3):           byte(types.PayloadTypeRAKPMessage4),
}

// guard is the socket to one BMC. go-ipmi does not check the signature of what
// it receives and panics, in a goroutine where nobody can catch it, on an
// encrypted packet of a wrong length: one forged datagram would end the whole
// controller. So the guard reads along while a session is opened, derives the
// session's keys, and drops every packet that is not the kind of answer
// expected, whole, and inside a session signed by the BMC.
type guard struct {
	*net.UDPConn
	password power.Secret
	suite    types.CipherSuiteID

	// Used under go-ipmi's lock of its UDP client only.
	asked   byte // payload type of the last packet sent
	console [4]byte
	rakp1   []byte
	k1, k2  []byte
}

// dialer makes guards; go-ipmi takes it as a "proxy".
type dialer struct {
	password power.Secret
	suite    types.CipherSuiteID
	conn     *guard
}

// Dial connects a UDP socket, so that the kernel drops what others send.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	to, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		return nil, err
	}
	c, err := net.DialUDP(network, nil, to)
	if err != nil {
		return nil, err
	}
	d.conn = &guard{UDPConn: c, password: d.password, suite: d.suite}
	return d.conn, nil
}

// interrupt ends a Read that waits.
func (d *dialer) interrupt() {
	if d.conn != nil {
		_ = d.conn.SetReadDeadline(time.Unix(1, 0)) // fails on a closed socket only
	}
}

// Write notes what will have to be answered.
func (g *guard) Write(p []byte) (int, error) {
	if len(p) > payloadAt && p[rmcpSize] == authRMCPP {
		g.asked = p[rmcpSize+1] & typeMask
		payload := p[payloadAt:]
		switch types.PayloadType(g.asked) {
		case types.PayloadTypeRmcpOpenSessionRequest:
			copy(g.console[:], payload[4:8])
		case types.PayloadTypeRAKPMessage1:
			g.rakp1 = append([]byte(nil), payload...)
		}
	}
	return g.UDPConn.Write(p)
}

// Read gives the next packet that may be trusted to be decoded, until the
// deadline set.
func (g *guard) Read(p []byte) (int, error) {
	for {
		n, err := g.UDPConn.Read(p)
		if err != nil || g.accept(p[:n]) {
			return n, err
		}
	}
}

// accept reports whether a packet is an answer that go-ipmi can decode.
func (g *guard) accept(p []byte) bool {
	if len(p) < payloadAt || p[3] != classIPMI || p[rmcpSize] != authRMCPP {
		return false
	}
	kind := p[rmcpSize+1]
	if want, ok := answers[g.asked]; !ok || kind&typeMask != want {
		return false
	}
	size := int(binary.LittleEndian.Uint16(p[14:16]))
	if len(p) < payloadAt+size {
		return false
	}
	if kind&typeMask == byte(types.PayloadTypeIPMI) {
		return g.acceptSigned(p, kind, size)
	}
	if kind != kind&typeMask { // the messages that open a session are bare
		return false
	}
	if types.PayloadType(kind) == types.PayloadTypeRAKPMessage2 {
		g.derive(p[payloadAt : payloadAt+size])
	}
	return size >= 8 && len(p) == payloadAt+size
}

// derive computes the session's keys from RAKP messages 1 and 2 (IPMI 2.0,
// sections 13.31 and 13.32). Without keys nothing inside a session is accepted.
func (g *guard) derive(rakp2 []byte) {
	g.k1, g.k2 = nil, nil
	if len(rakp2) < 40 || rakp2[1] != 0 || len(g.rakp1) < 28 {
		return
	}
	user := g.rakp1[28:]
	if n := int(g.rakp1[27]); n <= len(user) {
		user = user[:n]
	}
	auth, _, _, _ := types.GetCipherSuiteAlgorithms(g.suite)
	_, k1, k2, err := crypto.DeriveSessionKeys(auth, g.rakp1[8:24], rakp2[8:24], g.rakp1[24], string(user),
		crypto.PadPassword20([]byte(g.password.Reveal())))
	if err == nil && len(k2) >= aesBlock {
		g.k1, g.k2 = k1, k2
	}
}

// acceptSigned checks a packet of the session: for us, encrypted, signed, and
// with a content that decrypts to at least a completion code.
func (g *guard) acceptSigned(p []byte, kind byte, size int) bool {
	_, integ, _, _ := types.GetCipherSuiteAlgorithms(g.suite)
	codeLen, ok := crypto.IntegrityAuthCodeLen(integ)
	if !ok || codeLen == 0 || g.k1 == nil || kind&flagSecret == 0 || kind&flagSigned == 0 || [4]byte(p[6:10]) != g.console {
		return false
	}
	end := payloadAt + size
	pad := types.IntegrityPadLen(headerSize, size)
	signed := end + pad + 2
	if len(p) != signed+codeLen || p[signed-2] != byte(pad) || p[signed-1] != nextHeader {
		return false
	}
	code, err := crypto.SessionIntegrityAuthCode(integ, p[rmcpSize:signed], g.k1, "")
	if err != nil || !crypto.Equal(code, p[signed:]) {
		return false
	}
	if size < 2*aesBlock || size%aesBlock != 0 {
		return false
	}
	plain, err := crypto.DecryptAESPayload(p[payloadAt:end], g.k2)
	return err == nil && len(plain) >= minResponse
}
