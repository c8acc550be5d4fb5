package redfish

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

func archive(t *testing.T, files map[string]string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, body := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestPlaceAndKey(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"redfish": "/redfish", "redfish/v1/Systems": "/redfish/v1/systems", "DL325": "/redfish/v1",
		"DL325/Systems/1": "/redfish/v1/systems/1", "../x/../../etc": "/redfish/v1",
	} {
		if got := key(place(in)); got != want {
			t.Errorf("%s lies at %s, want %s", in, got, want)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	root := `{"Systems": {"@odata.id": "/redfish/v1/Systems"}}`
	tree, err := read(archive(t, map[string]string{"M/index.json": root, "M/Systems/index.json": `{"Members": []}`, "M/notes.txt": "x"}))
	if err != nil || len(tree.docs) != 3 { // and /redfish, which was missing
		t.Fatalf("%v, %d documents", err, len(tree.docs))
	}
	if _, err := learn(tree); err == nil {
		t.Error("a tree without a system was taken")
	}
	for name, files := range map[string]map[string]string{
		"no root": {"M/Systems/index.json": "{}"},
		"giant":   {"M/index.json": strings.Repeat(" ", maxDoc+1)},
	} {
		if _, err := read(archive(t, files)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := read(strings.NewReader("no gzip")); err == nil {
		t.Error("bytes that are no gzip were taken")
	}
}

func TestBuiltinIsWhole(t *testing.T) {
	t.Parallel()
	tree := Builtin()
	if _, err := learn(tree); err != nil {
		t.Fatal(err)
	}
	var follow func(from string, v any)
	follow = func(from string, v any) {
		switch x := v.(type) {
		case object:
			if to := link(x); to != "" && !strings.Contains(to, "/Sessions") && !strings.Contains(to, "/Tasks") {
				if _, ok := tree.get(to); !ok {
					t.Errorf("%s points to %s, which is not there", from, to)
				}
			}
			for _, part := range x {
				follow(from, part)
			}
		case []any:
			for _, part := range x {
				follow(from, part)
			}
		}
	}
	for p := range tree.docs {
		o, ok := tree.get(p)
		if !ok {
			t.Errorf("%s is no JSON object", p)
		}
		follow(p, o)
	}
}
