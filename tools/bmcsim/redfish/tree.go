package redfish

import (
	"archive/tar"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// object is one Redfish resource, or a part of one.
type object = map[string]any

// Tree is a set of Redfish resources by path. What is live (power, override,
// sessions, tasks) is laid over it by the server, so one Tree may serve many.
type Tree struct {
	docs map[string]tile // by key(path)
}

type tile struct {
	body []byte
	xml  bool
}

// Bounds on an archive, so that a wrong file cannot eat the memory.
const (
	maxDocs     = 50_000
	maxDoc      = 8 << 20
	maxTreeSize = 256 << 20
)

//go:embed builtin.json
var builtinJSON []byte

// Builtin returns the small tree of our own: one system, chassis and manager.
func Builtin() *Tree {
	var docs map[string]json.RawMessage
	if err := json.Unmarshal(builtinJSON, &docs); err != nil {
		panic(fmt.Sprintf("redfish: embedded tree: %v", err)) // a programmer's mistake
	}
	t := &Tree{docs: map[string]tile{}}
	for p, body := range docs {
		t.docs[key(p)] = tile{body: body}
	}
	return t
}

// key folds a path: some BMCs' own links differ in case from their paths (an
// HPE iLO says /redfish/v1/systems/1/bios), and take a trailing slash.
func key(p string) string {
	return strings.ToLower(strings.TrimRight(path.Clean("/"+p), "/"))
}

// Load reads a vendor's tree from a tar.gz of directories holding an
// index.json (or index.xml) each. The top folder is "redfish" or a model name
// that stands for /redfish/v1.
func Load(file string) (*Tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open Redfish tree: %w", err)
	}
	defer f.Close()
	t, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("read Redfish tree %s: %w", file, err)
	}
	return t, nil
}

func read(r io.Reader) (*Tree, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	t, total := &Tree{docs: map[string]tile{}}, 0
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		base := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || (base != "index.json" && base != "index.xml") {
			continue
		}
		body, err := io.ReadAll(io.LimitReader(tr, maxDoc+1))
		if err != nil {
			return nil, err
		}
		total += len(body)
		if len(body) > maxDoc || total > maxTreeSize || len(t.docs) >= maxDocs {
			return nil, fmt.Errorf("%s: tree is larger than %d documents or %d MiB", h.Name, maxDocs, maxTreeSize>>20)
		}
		t.docs[key(place(path.Dir(h.Name)))] = tile{body: body, xml: base == "index.xml"}
	}
	if _, ok := t.docs["/redfish/v1"]; !ok {
		return nil, errors.New("no service root in it (redfish/v1/index.json)")
	}
	if _, ok := t.docs["/redfish"]; !ok {
		t.docs["/redfish"] = tile{body: []byte(`{"v1": "/redfish/v1/"}`)}
	}
	return t, nil
}

// place turns a folder of the archive into a URL path.
func place(dir string) string {
	dir = strings.Trim(path.Clean("/"+dir), "/")
	if dir == "redfish" || strings.HasPrefix(dir, "redfish/") {
		return "/" + dir
	}
	_, rest, _ := strings.Cut(dir, "/")
	return "/redfish/v1/" + rest
}

// get parses the resource at p anew, so that the caller may change it.
func (t *Tree) get(p string) (object, bool) {
	d, ok := t.docs[key(p)]
	if !ok || d.xml {
		return nil, false
	}
	var o object
	if json.Unmarshal(d.body, &o) != nil {
		return nil, false
	}
	return o, true
}

// link follows a chain of properties to an @odata.id; "" if there is none.
func link(o object, names ...string) string {
	for _, n := range names {
		o, _ = o[n].(object)
	}
	s, _ := o["@odata.id"].(string)
	return s
}

// firstMember returns the path of a collection's first member.
func (t *Tree) firstMember(collection string) string {
	o, _ := t.get(collection)
	list, _ := o["Members"].([]any)
	if len(list) == 0 {
		return ""
	}
	m, _ := list[0].(object)
	return link(m)
}
