package api

import (
	"testing"

	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/proto/fault"
)

func TestKexecForbidden(t *testing.T) {
	t.Parallel()
	allowed, forbidden := Image{Name: "debian", KexecAllowed: true}, Image{Name: "windows"}
	unsafe := power.Flags{KexecUnsafe: true}
	for _, tc := range []struct {
		word     string
		img      Image
		hardware power.Flags
		want     bool // forbidden
		refused  bool
	}{
		{word: "", img: allowed},
		{word: "always", img: allowed},
		{word: "never", img: allowed, want: true},
		{word: "auto", img: forbidden, want: true},
		{word: "always", img: forbidden, refused: true},
		{word: "auto", img: allowed, hardware: unsafe, want: true},
		{word: "always", img: allowed, hardware: unsafe, refused: true},
	} {
		why, err := kexecForbidden(tc.word, tc.img, tc.hardware)
		if (why != "") != tc.want || fault.Is(err, fault.Precondition) != tc.refused {
			t.Errorf("%q, image %s, %+v: got %q, %v", tc.word, tc.img.Name, tc.hardware, why, err)
		}
	}
}
