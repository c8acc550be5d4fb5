package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ingot-metal/ingot/proto/fault"
)

// maxJSON bounds one JSON value of a stream of them, in bytes: a piece of an
// image in base64 is the largest.
const maxJSON = 4 << 20

// bounded is the gateway's JSON, with a limit for each value that it reads. A
// decoder keeps a value whole before anybody has looked at a token, and the body
// of an import has no limit of its own.
type bounded struct{ *runtime.JSONPb }

func newBounded() *bounded {
	return &bounded{&runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
}

// NewDecoder bounds each value but the first, which may be as long as a request
// may be, by maxJSON.
func (b *bounded) NewDecoder(r io.Reader) runtime.Decoder {
	in := &allowance{from: r}
	decoder := runtime.DecoderWrapper{Decoder: json.NewDecoder(in), UnmarshalOptions: b.UnmarshalOptions}
	most := int64(maxMessage)
	return runtime.DecoderFunc(func(v any) error {
		in.left = most
		most = maxJSON
		return decoder.Decode(v)
	})
}

// allowance reads so many bytes more, and then gives an error.
type allowance struct {
	from io.Reader
	left int64
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, fault.New(fault.Invalid, "a JSON value is longer than %d bytes; send an image in pieces of at most 1 MiB", maxJSON)
	}
	n, err := a.from.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	return n, err
}

// readable says whether path and query are text: what is not would be refused
// only inside, as a defect of ours.
func readable(u *url.URL) bool {
	query, err := url.QueryUnescape(u.RawQuery)
	return utf8.ValidString(u.Path) && (err != nil || utf8.ValidString(query))
}

// refuseGRPC answers a call that reaches no method: the status in headers alone,
// as the protocol of gRPC over HTTP/2 has it ("Trailers-Only").
func refuseGRPC(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", strconv.Itoa(int(statusCode(err))))
	w.Header().Set("Grpc-Message", url.PathEscape(statusText(err)))
	w.WriteHeader(http.StatusOK)
}

// refuse answers a request that reaches no method, in the form of the others.
func refuse(w http.ResponseWriter, code codes.Code, text string) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(runtime.HTTPStatusFromCode(code))
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": text, "details": []any{}}) // the asker may have gone
}
