// Package daemon builds every part of ingotd from one Config, in reading order,
// and runs them. Nothing else knows how the parts fit together.
//
// It starts from the bottom (keys, database, authority, images) to the top
// (engine, boot services, agents, operators) and stops from the top down: first
// nobody is let in any more, then what is under way ends, then the database is
// left, and the private PostgreSQL, if there is one, is stopped last.
package daemon
