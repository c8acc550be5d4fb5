// Package migrations holds the schema's history: small numbered files that only
// go forward. The store applies them at start, one controller at a time.
package migrations

import "embed"

// Files are the migrations in goose's form.
//
//go:embed *.sql
var Files embed.FS
