package manifest

import "bytes"

var zeros [4096]byte

// IsHole tells whether content is all zero. It runs at memory speed.
func IsHole(content []byte) bool {
	for len(content) > len(zeros) {
		if !bytes.Equal(content[:len(zeros)], zeros[:]) {
			return false
		}
		content = content[len(zeros):]
	}
	return bytes.Equal(content, zeros[:len(content)])
}
