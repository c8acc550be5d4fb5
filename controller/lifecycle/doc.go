// Package lifecycle is the engine that carries machines through their states.
// It alone changes a machine's state; everyone else records a wish and nudges.
//
// A turn:
//
//	store: machine due (wake_at), claimed under a lease with a rising token
//	   │ snapshot: machine, operation, orders so far
//	   ▼
//	handler of the state (pure)  ──►  Decision: wait, go or end
//	   │                               + orders, steps, events
//	   ▼
//	store: all of it in one transaction, refused when the token is stale
//
// A handler never acts. What it wants done outside the database is an order: a
// row, saved with the decision, delivered later by whichever controller holds
// the agent's stream, or by the Actuator here when it is for a BMC. Orders are
// unique by operation, step and attempt, so that a turn taken twice gives an
// order once. Results come back as rows and wake the machine.
//
// Three loops run: the Engine takes turns, the Actuator speaks to BMCs, the
// Reaper ends what is past its deadline without asking the engine.
//
// Failure cases: a controller that dies in a turn leaves nothing (nothing was
// saved); one that dies between order and effect leaves an order whose claim
// runs out and which another carries out after reading back; one that was
// paused and wakes late is refused by its stale token.
//
// A BMC knows no tokens. What a controller that was paused can still tell one is
// bounded: its claim lasts four minutes, its calls end twenty seconds before that
// by their own deadlines, which have passed when it wakes; so nothing new is
// begun. What remains is the one request that its kernel had already, at most
// thirty seconds old then. Who takes over reads back before it acts, and what it
// was about comes again when the state is not the wanted one. The old holder's
// session at the BMC is not ended by the new one: only its holder knows its id,
// others of the same user are people's, and a driver whose session was ended logs
// in anew, so that it would stop nothing. It ends by the BMC's own timeout.
package lifecycle
