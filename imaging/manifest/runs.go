package manifest

// Run is a stretch of the packed file that one range request fetches: the
// wanted frames in it, and where needed the few bytes of holes between them.
type Run struct {
	Offset int64 // in the packed file
	Length int64
	Frames []int // indices into Manifest.Frames, ascending; every one has data
}

// Runs cuts the wanted frames into stretches, in the order of the file. want
// tells for each frame with data whether it is wanted; nil wants them all.
// A run is closed before it would exceed maxBytes (one frame always fits) and
// before a gap of more than maxGap bytes that nobody wants.
func (m *Manifest) Runs(want func(i int) bool, maxBytes, maxGap int64) []Run {
	var runs []Run
	for i := range m.Frames {
		f := &m.Frames[i]
		if f.Zero || (want != nil && !want(i)) {
			continue
		}
		start, end := int64(f.Offset), int64(f.Offset)+int64(f.PackedSize)
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			if start-(last.Offset+last.Length) <= maxGap && end-last.Offset <= maxBytes {
				last.Length = end - last.Offset
				last.Frames = append(last.Frames, i)
				continue
			}
		}
		runs = append(runs, Run{Offset: start, Length: end - start, Frames: []int{i}})
	}
	return runs
}
