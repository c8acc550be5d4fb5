// Package relay plans who takes the frames of one image from whom, while many
// machines write that image at the same time. It is pure: states of members and
// the time go in, upstreams come out. Board holds one Group an image.
//
//	controller ──HTTP──► head ──► member ──► member ──► tail
//	           ╲                                          ├──► slow leaf
//	            ╲─HTTP─► head of late joiners ──► …       └──► slow leaf
//
// A relay is a forest of chains. Every root, a head, reads from the controller by
// HTTP, so the controller's egress is the number of heads, not of members.
//
// # Rules
//
//   - A link joins a member to one that is ahead of it in the packed file and
//     whose ring still holds what the member needs next. There are no cycles.
//   - A member serves one healthy member. Whoever is slow or doubted serves
//     nobody, and hangs, with others of its kind, at the tail of a chain.
//   - Slow is who has data waiting at its source, and takes it at less than half
//     of the best rate of the moment. How far it lags says nothing (one that
//     catches up lags too), and the median says nothing (all that sit behind a
//     slow member are as slow as it).
//   - Nobody behind a slow head can tell: so a head is put to the test when its
//     chain is slower than the members' links: its child reads beside it for a
//     moment, and the two are compared.
//   - Who falls silent, or whose peer says that it failed, is passed over at once:
//     whoever read from it goes to the one before it.
//   - A link that works is left alone.
//
// What a member says is believed as far as it can harm only itself. A report
// against a peer to which it was sent parts those two, against another it is
// nothing; it takes two members to stop a peer from serving, and one who accuses
// three is not heard. A head's own rate is what the member behind it bears out.
// So one that lies costs the others little more than one that takes no part.
//
// # When this is wrong
//
// Nothing depends on it. A member whose peer fails goes to HTTP by itself before
// anybody is asked; every frame is verified against the manifest by whoever takes
// it. A Board that forgets everything costs egress and nothing else.
package relay
