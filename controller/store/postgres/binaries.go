package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

const installedIn = "/usr/lib/postgresql"

// findBinaries picks the binaries: those of an existing database's version, else
// the newest that are installed.
func findBinaries(wanted, database string) (string, error) {
	has, err := databaseVersion(database)
	if err != nil {
		return "", err
	}
	if wanted != "" {
		if _, err := os.Stat(filepath.Join(wanted, "postgres")); err != nil {
			return "", fmt.Errorf("no PostgreSQL server in %s: %w", wanted, err)
		}
		return wanted, nil // the server itself refuses another version's data
	}
	versions, err := installed(installedIn)
	if err != nil {
		return "", err
	}
	if len(versions) == 0 {
		return "", fmt.Errorf("no PostgreSQL server in %s/*/bin: apt install postgresql, or give --database URL", installedIn)
	}
	newest := versions[len(versions)-1]
	if has == 0 {
		has = newest
	}
	for _, v := range versions {
		if v == has {
			return filepath.Join(installedIn, strconv.Itoa(v), "bin"), nil
		}
	}
	return "", fmt.Errorf("the database in %s was made by PostgreSQL %d and the newest installed is %d: "+
		"install postgresql-%d again, or bring the data over with pg_upgrade (stop ingotd; install both versions; "+
		"initdb a new directory with -E UTF8 --locale=C -U %s; pg_upgrade -b %s/%d/bin -B %s/%d/bin -d %s -D NEW -U %s; put NEW in its place). Nothing was changed",
		database, has, newest, has, superuser, installedIn, has, installedIn, newest, database, superuser)
}

// databaseVersion is the major version that made the database, 0 for none.
func databaseVersion(database string) (int, error) {
	text, err := os.ReadFile(filepath.Join(database, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at the database in %s: %w", database, err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(bytes.TrimSpace(text))))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION says %q, which is no version", database, text)
	}
	return v, nil
}

// installed lists the major versions that have a server, oldest first.
func installed(root string) ([]int, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "*", "bin", "postgres"))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, d := range dirs {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(d)))); err == nil {
			out = append(out, v)
		}
	}
	sort.Ints(out)
	return out, nil
}

// identity is who runs the server; a nil credential means ourselves.
type identity struct {
	name       string
	credential *syscall.Credential
}

// whoRuns finds an unprivileged user when we are root, since PostgreSQL refuses
// to run as root.
func whoRuns(wanted string) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{name: "uid " + strconv.Itoa(os.Geteuid())}, nil
	}
	names := []string{wanted}
	if wanted == "" {
		names = []string{"postgres", "nobody"}
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil || uid == 0 {
			continue
		}
		return identity{name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return identity{}, fmt.Errorf("PostgreSQL does not run as root and none of the users %s exists: "+
		"make one (useradd --system postgres), start ingotd as another user, or give --database URL", strings.Join(names, ", "))
}
