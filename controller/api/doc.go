// Package api is the operators' door: the gRPC services of proto/operator, the
// same as REST with JSON, the OpenAPI description, /healthz and /metrics, all on
// one TLS listener.
//
//	HTTP/2 with content type application/grpc ──> gRPC server ─┐
//	everything else ──> REST gateway ──in memory──> gRPC server ─┴─> chokepoint ──> services
//
// Every method passes auth.Chokepoint with the table in table.go; a method that
// is not in it is closed. Requests are judged at the door, with sentences for
// the person who asked; what passes is recorded as a wish in the store, and the
// lifecycle engine carries it out. Nothing here changes a machine's state.
//
// No answer holds a secret: the password of a BMC, user-data and report tokens
// go in and never come out.
package api
