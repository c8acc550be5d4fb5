// Package queries holds the SQL of the store: one file a subject, each statement
// under a line "-- name: Name". A test checks that each is used and that the
// database can prepare it.
package queries

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Set is all statements by name.
type Set map[string]string

const header = "-- name: "

// Load reads the statements. It panics on a file that is wrongly made: the files
// are part of the program.
func Load() Set {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		panic(err)
	}
	set := Set{}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err)
		}
		set.add(name, string(text))
	}
	return set
}

// Get gives a statement; asking for one that is not there is a programmer's
// mistake.
func (s Set) Get(name string) string {
	text, ok := s[name]
	if !ok {
		panic("no statement " + name + " in controller/store/queries")
	}
	return text
}

func (s Set) add(file, text string) {
	for _, part := range strings.Split("\n"+text, "\n"+header)[1:] {
		name, body, _ := strings.Cut(part, "\n")
		name = strings.TrimSpace(name)
		if _, twice := s[name]; twice {
			panic(fmt.Sprintf("%s: statement %s is there twice", file, name))
		}
		s[name] = strings.TrimSpace(body)
	}
}
