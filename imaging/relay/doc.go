// Package relay lets machines that write the same image at the same time pass
// its packed frames on to each other, in chains that the controller arranges:
//
//	controller ──HTTP──> machine A ──> machine B ──> machine C ──> …
//	     └───────────── the floor: whoever lacks something takes it there ──┘
//
// A Node is one machine's part, for one image, for the length of one deploy. To
// the writer it is a Source (Range, Suspect), which reads from the upstream
// that SetUpstream named, or from the floor, an ordinary fetch.Source. What the
// writer has verified comes back by Put into a ring of bounded memory, from
// which the Handler serves others.
//
//	upstream ┐            ┌──> writer: SHA-256 of each frame ─┐
//	         ├── Range ───┘                                   │ Put
//	floor ───┘                             peers <── ring <───┘
//
// # The protocol
//
// Peers ask for frames by number, since the packed bytes of holes travel to
// nobody:
//
//	GET /relay/<digest>/frames?first=17&last=24
//	Authorization: Ingot-Relay <machine id>:<expiry>:<HMAC>
//
// The body is a row of records of 16 bytes: a kind, a reason, two zero bytes,
// the number of a frame (32 bits, big-endian), and the position of the one who
// serves (64 bits). 'F' is followed by the packed bytes of that frame, as many
// as the manifest says. 'W' says every 300 ms that the frame is still on its
// way, so that a peer that waits is told from one that is dead. 'E' ends the
// row, with a reason: gone (it has left the ring), late, or leaving.
//
// # What is trusted
//
// Of a peer, nothing. Lengths come from the manifest, the writer checks each
// frame's SHA-256, and a peer that sends garbage is not asked again in this
// deploy. One that closes, stalls, trickles, or waits for too long is left at
// once, without asking anybody, and what it owed comes from the floor, from the
// very byte on where it broke off. All of it is told in State, and the
// controller may name another upstream at any time, also in the middle of a
// range. What peers and controller say can cost time and nothing else.
//
// Who may read: whoever proves to know the relay's key, for this image, this
// machine, and the next minute. Everybody else gets the same 403, whatever he
// asks for. With TLS both sides also show the certificates of their boots, and
// the names in them must be those of the machines that are expected. Numbers of
// connections and requests, sizes and times are bounded, and so is the rate if
// wanted.
//
// A reader never holds memory back: a frame is copied out of the ring in small
// pieces, and who is so slow that the ring moves on under him is cut off, and
// goes to the floor.
package relay
