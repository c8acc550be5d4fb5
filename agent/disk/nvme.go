package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Admin commands and fields of the NVM Express Base Specification 2.0.
const (
	nvmeIdentify   = 0x06
	nvmeGetLogPage = 0x02
	nvmeFormat     = 0x80
	nvmeSanitize   = 0x84

	sanitizeLog = 0x81
	// sanitizeBlock is SANACT 010b, block erase (figure 303).
	sanitizeBlock = 2
	// Status of the most recent sanitize, SSTAT bits 2:0 (figure 233).
	sanitizeDone, sanitizeRunning, sanitizeFailed, sanitizeDoneNoDeallocate = 1, 2, 3, 4
)

// nvmeCommand is struct nvme_passthru_cmd of linux/nvme_ioctl.h, 72 bytes.
type nvmeCommand struct {
	opcode, flags     uint8
	_                 uint16
	nsid, _, _        uint32
	metadata, address uint64
	metadataLen, len  uint32
	cdw10, cdw11      uint32
	cdw12, cdw13      uint32
	cdw14, cdw15      uint32
	timeoutMillis     uint32
	result            uint32
}

// nvmeIoctlAdmin is NVME_IOCTL_ADMIN_CMD, _IOWR('N', 0x41, 72 bytes).
const nvmeIoctlAdmin = 0xc0484e41

// admin sends one admin command with its data.
type admin func(command *nvmeCommand, data []byte) error

func adminOf(f *os.File) admin {
	return func(c *nvmeCommand, data []byte) error {
		if len(data) > 0 {
			c.address, c.len = uint64(uintptr(unsafe.Pointer(&data[0]))), uint32(len(data))
		}
		status, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), nvmeIoctlAdmin, uintptr(unsafe.Pointer(c)))
		runtime.KeepAlive(data)
		if errno != 0 {
			return fmt.Errorf("NVMe admin command %#x: %w", c.opcode, errno)
		}
		if status != 0 {
			return fmt.Errorf("NVMe admin command %#x: the device answers status %#x", c.opcode, status)
		}
		return nil
	}
}

// nvmeAbilities is what of erasing a controller offers for one namespace alone.
type nvmeAbilities struct {
	nsid          uint32
	sanitizeBlock bool
	format        bool
	lbaFormat     uint32 // cdw10 of a Format that changes nothing but the data
}

// nvmeAsk reads the abilities. A controller whose commands would reach other
// namespaces than the one asked for offers nothing, unless there are none, not
// even detached ones or those of another controller of the same subsystem.
func nvmeAsk(send admin, nsid uint32) (nvmeAbilities, error) {
	controller, namespace, list := make([]byte, 4096), make([]byte, 4096), make([]byte, 4096)
	for _, ask := range []struct {
		cns, nsid uint32
		into      []byte
	}{{1, 0, controller}, {0, nsid, namespace}, {2, 0, list}} {
		if err := send(&nvmeCommand{opcode: nvmeIdentify, nsid: ask.nsid, cdw10: ask.cns}, ask.into); err != nil {
			return nvmeAbilities{}, err
		}
	}
	le := binary.LittleEndian
	oacs, fna, sanicap := le.Uint16(controller[256:]), controller[524], le.Uint32(controller[328:])
	alone := le.Uint32(list) == nsid && le.Uint32(list[4:]) == 0
	if alone && oacs&(1<<3) != 0 { // namespaces are managed: list those that are not attached too (CNS 10h)
		clear(list)
		err := send(&nvmeCommand{opcode: nvmeIdentify, cdw10: 0x10}, list)
		alone = err == nil && le.Uint32(list) == nsid && le.Uint32(list[4:]) == 0
	}
	flbas, dps := uint32(namespace[26]), uint32(namespace[29])
	return nvmeAbilities{
		nsid:          nsid,
		sanitizeBlock: alone && sanicap&(1<<1) != 0,
		// FNA bits 0 and 1: Format, or its erase, is for all namespaces.
		format:    oacs&(1<<1) != 0 && (alone || fna&3 == 0),
		lbaFormat: flbas&0xf | (flbas>>4&1)<<4 | (dps&7)<<5 | (dps>>3&1)<<8 | (flbas>>5&3)<<12, // LBAFL, MSET, PI, PIL, LBAFU
	}, nil
}

// runSanitize starts a block erase and waits until the device's own log says
// that it is over. A sanitize goes on across resets; one that is found running
// is waited for and then begun again, since nobody knows what it was.
func runSanitize(ctx context.Context, send admin, poll time.Duration, progress func(part float64)) error {
	if status, _, err := sanitizeStatus(send); err == nil && status == sanitizeRunning {
		if err := awaitSanitize(ctx, send, poll, progress); err != nil {
			return err
		}
	}
	if err := send(&nvmeCommand{opcode: nvmeSanitize, cdw10: sanitizeBlock, timeoutMillis: 60_000}, nil); err != nil {
		return err
	}
	return awaitSanitize(ctx, send, poll, progress)
}

func awaitSanitize(ctx context.Context, send admin, poll time.Duration, progress func(part float64)) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		status, part, err := sanitizeStatus(send)
		if err != nil {
			return err
		}
		switch status {
		case sanitizeDone, sanitizeDoneNoDeallocate:
			return nil
		case sanitizeFailed:
			return errors.New("the device's log says that its sanitize failed")
		case sanitizeRunning:
			progress(part)
		default:
			return fmt.Errorf("the device's log knows of no sanitize (status %d)", status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("sanitize still runs: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

func sanitizeStatus(send admin) (status int, part float64, err error) {
	page := make([]byte, 512)
	c := &nvmeCommand{opcode: nvmeGetLogPage, nsid: 0xffffffff, cdw10: sanitizeLog | uint32(len(page)/4-1)<<16}
	if err := send(c, page); err != nil {
		return 0, 0, err
	}
	sprog, sstat := binary.LittleEndian.Uint16(page), binary.LittleEndian.Uint16(page[2:])
	return int(sstat & 7), float64(sprog) / 65536, nil
}

// runFormat formats the namespace as it is, with user data erase (SES 001b).
// The command returns when it is done.
func runFormat(send admin, a nvmeAbilities, limit time.Duration) error {
	return send(&nvmeCommand{opcode: nvmeFormat, nsid: a.nsid, cdw10: a.lbaFormat | 1<<9,
		timeoutMillis: uint32(limit.Milliseconds())}, nil)
}
