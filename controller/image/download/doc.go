// Package download fetches one file over HTTP or HTTPS for an import, from an
// address that a person named and a server that may be hostile or ill.
//
//	URL ─ judged ─> address ─ judged when it is dialled ─> answer ─┬─> bytes, with limits
//	 ^                                                             └─> redirect, judged again
//	 └── resumed by range while it is still the same file ── cut off, slow, 5xx
//
// The controller stands inside the site, so a URL could make it read for
// somebody what only it can reach: services on its loopback, a cloud's metadata
// at a link-local address, other machines of the site. Therefore only http and
// https without a password in the URL; addresses are judged where the
// connection is made, after the name was resolved (a name may resolve
// differently the second time); a redirect never leads from a public address to
// an inner one, nor from https to http. Addresses of private networks are
// allowed unless the policy says otherwise, because image mirrors live there.
// Environment variables for proxies are ignored.
//
// A file that changes while it is fetched is refused: a resumed answer must
// carry the same ETag, date and length. What has neither ETag nor date is
// fetched from its start again.
package download
