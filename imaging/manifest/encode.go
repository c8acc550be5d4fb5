package manifest

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Encode gives the canonical bytes (see the package comment), after Validate.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	data := m.appendCanonical(nil)
	if len(data) > MaxBytes {
		return nil, invalidf("manifest takes %d bytes, the limit is %d: use larger frames", len(data), MaxBytes)
	}
	return data, nil
}

// Digest is the name of the image, the SHA-256 of its canonical bytes.
func (m *Manifest) Digest() (Digest, error) {
	data, err := m.Encode()
	if err != nil {
		return "", fmt.Errorf("digest of manifest: %w", err)
	}
	return DigestOf(data), nil
}

func (m *Manifest) appendCanonical(b []byte) []byte {
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, int64(m.Version), 10)
	b = appendString(append(b, `,"kind":`...), string(m.Kind))
	if m.Name != "" {
		b = appendString(append(b, `,"name":`...), m.Name)
	}
	b = appendString(append(b, `,"architecture":`...), m.Architecture)
	b = appendUint(append(b, `,"sector_size":`...), uint64(m.SectorSize))
	b = appendUint(append(b, `,"size_bytes":`...), m.SizeBytes)
	b = appendUint(append(b, `,"frame_size_bytes":`...), uint64(m.FrameSizeBytes))
	b = appendUint(append(b, `,"packed_size_bytes":`...), m.PackedSizeBytes)
	if m.Boot != nil && !m.Boot.empty() {
		b = m.Boot.appendCanonical(append(b, `,"boot":`...))
	}
	b = m.appendHoles(append(b, `,"holes":`...))
	b = m.appendFrames(append(b, `,"frames":`...))
	return append(b, '}')
}

func (m *Manifest) appendHoles(b []byte) []byte {
	b = append(b, '[')
	comma := false
	for i := 0; i < len(m.Frames); {
		if !m.Frames[i].Zero {
			i++
			continue
		}
		first := i
		for i < len(m.Frames) && m.Frames[i].Zero {
			i++
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = appendUint(append(b, '['), uint64(first))
		b = appendUint(append(b, ','), uint64(i-first))
		b = append(b, ']')
	}
	return append(b, ']')
}

func (m *Manifest) appendFrames(b []byte) []byte {
	b = append(b, '[')
	comma := false
	for i := range m.Frames {
		f := &m.Frames[i]
		if f.Zero {
			continue
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = appendUint(append(b, '['), f.Offset)
		b = appendUint(append(b, ','), uint64(f.PackedSize))
		b = hex.AppendEncode(append(b, `,"`...), f.PackedSHA256[:])
		b = fmt.Appendf(append(b, `","`...), "%016x", f.XXH3)
		b = hex.AppendEncode(append(b, `","`...), f.SHA256[:])
		b = append(b, `"]`...)
	}
	return append(b, ']')
}

// appendCanonical writes the members that are set, in the order of the struct.
func (boot *Boot) appendCanonical(b []byte) []byte {
	b = append(b, '{')
	start := len(b)
	member := func(name string) {
		if len(b) > start {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
	}
	text := func(name, value string) {
		if value != "" {
			member(name)
			b = appendString(b, value)
		}
	}
	number := func(name string, value uint32) {
		if value != 0 {
			member(name)
			b = appendUint(b, uint64(value))
		}
	}
	text("partition_table", boot.PartitionTable)
	number("root_partition", boot.RootPartition)
	number("esp_partition", boot.ESPPartition)
	text("esp_loader", boot.ESPLoader)
	text("kernel", boot.Kernel)
	if len(boot.Initrds) > 0 {
		member("initrds")
		for i, path := range boot.Initrds {
			b = append(b, "[,"[min(i, 1)])
			b = appendString(b, path)
		}
		b = append(b, ']')
	}
	text("cmdline", boot.Cmdline)
	return append(b, '}')
}

func (boot *Boot) empty() bool {
	return boot.PartitionTable == "" && boot.RootPartition == 0 && boot.ESPPartition == 0 && boot.ESPLoader == "" &&
		boot.Kernel == "" && len(boot.Initrds) == 0 && boot.Cmdline == ""
}

func appendUint(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }

// appendString relies on Validate having refused all but printable ASCII.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
