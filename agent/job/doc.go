// Package job runs one order of the controller on this machine: phases one
// after the other, the tasks of a phase together, each with a limit in time,
// and exactly one result at the end.
//
//	order ─ Plan ─> phase "prepare" ─> phase "write" ─> … ─> result
//	                  └ task, task       └ task
//
// The start and the end of every phase and task is reported. A task that
// panics fails its order with the text of the panic; the agent goes on. Nothing
// here talks to the network: a Reporter takes what is to be told, and what
// follows a result (After) is done by somebody else, once the controller has
// said that the result is stored.
package job
