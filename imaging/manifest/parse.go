package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
)

// wire is the JSON form; see the package comment for its rules.
type wire struct {
	Version         int         `json:"version"`
	Kind            Kind        `json:"kind"`
	Name            string      `json:"name"`
	Architecture    string      `json:"architecture"`
	SectorSize      uint32      `json:"sector_size"`
	SizeBytes       uint64      `json:"size_bytes"`
	FrameSizeBytes  uint32      `json:"frame_size_bytes"`
	PackedSizeBytes uint64      `json:"packed_size_bytes"`
	Boot            *wireBoot   `json:"boot"`
	Holes           [][2]uint64 `json:"holes"`
	Frames          []wireFrame `json:"frames"`
}

type wireBoot struct {
	PartitionTable string   `json:"partition_table"`
	RootPartition  uint32   `json:"root_partition"`
	ESPPartition   uint32   `json:"esp_partition"`
	ESPLoader      string   `json:"esp_loader"`
	Kernel         string   `json:"kernel"`
	Initrds        []string `json:"initrds"`
	Cmdline        string   `json:"cmdline"`
}

type wireFrame Frame

// UnmarshalJSON reads one row: [offset, packed size, "sha256", "xxh3", "sha256"].
func (f *wireFrame) UnmarshalJSON(data []byte) error {
	var packed, xxh, content string
	cells := []any{&f.Offset, &f.PackedSize, &packed, &xxh, &content}
	if err := json.Unmarshal(data, &cells); err != nil {
		return err
	}
	if len(cells) != 5 {
		return fmt.Errorf("frame row has %d cells, want 5", len(cells))
	}
	if err := decodeHash(&f.PackedSHA256, packed); err != nil {
		return err
	}
	if err := decodeHash(&f.SHA256, content); err != nil {
		return err
	}
	n, err := strconv.ParseUint(xxh, 16, 64)
	f.XXH3 = n
	return err
}

func decodeHash(h *Hash, s string) error {
	if len(s) != 2*len(h) {
		return fmt.Errorf("hash of %d digits, want %d", len(s), 2*len(h))
	}
	_, err := hex.Decode(h[:], []byte(s))
	return err
}

// Parse reads canonical bytes and refuses all others, so DigestOf(data) is the
// digest of the result. Errors wrap ErrInvalid. It needs memory of a few times
// len(data), and refuses more than MaxBytes without looking.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > MaxBytes {
		return nil, invalidf("%d bytes, the limit is %d", len(data), MaxBytes)
	}
	var w wire
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m, err := w.manifest()
	if err != nil {
		return nil, err
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	// One comparison settles white space, order, case, duplicates and whatever
	// else two readers of JSON could disagree about.
	if !bytes.Equal(m.appendCanonical(make([]byte, 0, len(data))), data) {
		return nil, invalidf("not in canonical form")
	}
	return m, nil
}

// ParseVerified is Parse after checking that data is what the digest names.
func ParseVerified(data []byte, want Digest) (*Manifest, error) {
	if got := DigestOf(data); got != want {
		return nil, invalidf("digest is %s, want %s", got, want)
	}
	return Parse(data)
}

func (w *wire) manifest() (*Manifest, error) {
	m := &Manifest{
		Version: w.Version, Kind: w.Kind, Name: w.Name, Architecture: w.Architecture,
		SectorSize: w.SectorSize, SizeBytes: w.SizeBytes, FrameSizeBytes: w.FrameSizeBytes,
		PackedSizeBytes: w.PackedSizeBytes,
	}
	if w.Boot != nil {
		boot := Boot(*w.Boot)
		m.Boot = &boot
	}
	if err := m.validateHead(); err != nil {
		return nil, err
	}
	count := m.frameCount()
	if count > MaxFrames {
		return nil, invalidf("%d frames, the limit is %d", count, MaxFrames)
	}
	m.Frames = make([]Frame, count)
	if err := m.markHoles(w.Holes); err != nil {
		return nil, err
	}
	return m, m.placeRows(w.Frames)
}

func (m *Manifest) markHoles(holes [][2]uint64) error {
	for _, hole := range holes {
		first, count := hole[0], hole[1]
		total := uint64(len(m.Frames))
		if first > total || count > total-first {
			return invalidf("hole of %d frames at %d is beyond the last frame", count, first)
		}
		for i := first; i < first+count; i++ {
			if m.Frames[i].Zero {
				return invalidf("holes overlap at frame %d", i)
			}
			m.Frames[i].Zero = true
		}
	}
	return nil
}

func (m *Manifest) placeRows(rows []wireFrame) error {
	next := 0
	for i := range m.Frames {
		if !m.Frames[i].Zero {
			if next == len(rows) {
				return invalidf("%d rows of frames are too few", len(rows))
			}
			m.Frames[i] = Frame(rows[next])
			next++
		}
		m.Frames[i].Size = m.frameSize(i)
	}
	if next != len(rows) {
		return invalidf("%d rows of frames, want %d", len(rows), next)
	}
	return nil
}
