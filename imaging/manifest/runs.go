package manifest

// Run is a stretch of the packed file that one range request fetches: the
// wanted frames in it, and where needed the few bytes of holes between them.
type Run struct {
	Offset int64 // in the packed file
	Length int64
	Frames []int // indices into Manifest.Frames, ascending; every one has data
}

// RunLimits says where a run is closed: before it would exceed Bytes or Frames
// (one frame always fits; 0 frames are no limit), and before a gap of more than
// Gap bytes that nobody wants.
type RunLimits struct {
	Bytes, Gap int64
	Frames     int
}

// Runs cuts frames, which have data and ascend, into stretches.
func (m *Manifest) Runs(frames []int, limit RunLimits) []Run {
	var runs []Run
	for _, i := range frames {
		f := &m.Frames[i]
		start, end := int64(f.Offset), int64(f.Offset)+int64(f.PackedSize)
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			if start-(last.Offset+last.Length) <= limit.Gap && end-last.Offset <= limit.Bytes &&
				(limit.Frames == 0 || len(last.Frames) < limit.Frames) {
				last.Length = end - last.Offset
				last.Frames = append(last.Frames, i)
				continue
			}
		}
		runs = append(runs, Run{Offset: start, Length: end - start, Frames: []int{i}})
	}
	return runs
}

// DataFrames are the indices of all frames that are no holes.
func (m *Manifest) DataFrames() []int {
	var frames []int
	for i := range m.Frames {
		if !m.Frames[i].Zero {
			frames = append(frames, i)
		}
	}
	return frames
}
