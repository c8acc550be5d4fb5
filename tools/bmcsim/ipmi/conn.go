package ipmi

import (
	"fmt"
	"net"
	"sync/atomic"

	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"
)

// lossyConn is the UDP socket with the faults that live below IPMI: no answer
// at all, lost packets, and no free session.
type lossyConn struct {
	*udp.Conn
	s *Server
	n atomic.Int64
}

func listenLossy(addr string, s *Server) (*lossyConn, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("IPMI address %q: %w", addr, err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		return nil, fmt.Errorf("listen for IPMI on %s: %w", addr, err)
	}
	return &lossyConn{Conn: udp.Wrap(c, udp.WithReadTimeout(0)), s: s}, nil
}

func (c *lossyConn) port() uint16 {
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// ReadFrom returns the next packet that the faults let through.
func (c *lossyConn) ReadFrom(buf []byte) (int, net.Addr, error) {
	for {
		n, addr, err := c.Conn.ReadFrom(buf)
		if err != nil {
			return n, addr, err
		}
		f := c.s.m.Faults().Get()
		lost := f.IPMIDropEvery > 0 && c.n.Add(1)%int64(f.IPMIDropEvery) == 0
		if f.IPMIHang || lost || c.s.down() {
			continue
		}
		if f.IPMINoSessions && c.refuseSession(buf[:n], addr) {
			continue
		}
		return n, addr, nil
	}
}

// refuseSession answers an RMCP+ Open Session Request with status 0x01,
// insufficient resources (IPMI 2.0, table 13-15), and says whether pkt was one.
func (c *lossyConn) refuseSession(pkt []byte, addr net.Addr) bool {
	_, _, kind, _, payload, ok := protocol.ParseRMCPPlusHeader(pkt)
	if !ok || kind != uint8(types.PayloadTypeRmcpOpenSessionRequest) {
		return false
	}
	var req rmcpplus.OpenSessionRequest
	if req.Unpack(payload) != nil {
		return false
	}
	resp := rmcpplus.OpenSessionResponse{
		MessageTag: req.MessageTag, RmcpStatusCode: 0x01, RemoteConsoleSessionID: req.RemoteConsoleSessionID,
	}
	_, _ = c.WriteTo(protocol.BuildRMCPPlusPacket(uint8(types.PayloadTypeRmcpOpenSessionResponse), 0, 0, 0, resp.Pack()), addr)
	return true
}
