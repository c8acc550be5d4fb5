package api_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/api"
	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/proto/operator"
)

// services is the contract as it was generated.
var services = []*grpc.ServiceDesc{
	&operator.MachineService_ServiceDesc, &operator.OperationService_ServiceDesc, &operator.ImageService_ServiceDesc,
	&operator.PoolService_ServiceDesc, &operator.EventService_ServiceDesc, &operator.LeaseService_ServiceDesc,
	&operator.TokenService_ServiceDesc, &operator.SettingService_ServiceDesc,
}

func methods() (unary, streams []string) {
	for _, s := range services {
		for _, m := range s.Methods {
			unary = append(unary, "/"+s.ServiceName+"/"+m.MethodName)
		}
		for _, m := range s.Streams {
			streams = append(streams, "/"+s.ServiceName+"/"+m.StreamName)
		}
	}
	return unary, streams
}

func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	table := api.Methods()
	unary, streams := methods()
	for _, m := range append(unary, streams...) {
		if table[m] == auth.Deny {
			t.Errorf("%s is not in the reviewed table", m)
		}
		if table[m] == auth.Public {
			t.Errorf("%s is open to everybody", m)
		}
		delete(table, m)
	}
	for m := range table {
		t.Errorf("the table has %s, which is no method of the contract", m)
	}
}

func TestNobodyWithoutToken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	unary, streams := methods()
	for _, token := range []string{"", "x", "ingot_" + "00000000000000000000000000000000000000000000000000000000000000ff"} {
		conn := s.dial(token)
		for _, m := range unary {
			err := conn.Invoke(t.Context(), m, &emptypb.Empty{}, &emptypb.Empty{})
			if got := status.Code(err); got != codes.Unauthenticated {
				t.Errorf("%s with token %q: %v, want Unauthenticated", m, token, err)
			}
		}
		for _, m := range streams {
			stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, m)
			if err == nil {
				err = stream.RecvMsg(&emptypb.Empty{})
			}
			if got := status.Code(err); got != codes.Unauthenticated {
				t.Errorf("%s with token %q: %v, want Unauthenticated", m, token, err)
			}
		}
	}
	for _, path := range []string{"/v1/machines", "/v1/operations", "/v1/images", "/v1/events", "/v1/leases", "/v1/tokens", "/v1/settings", "/metrics"} {
		if code, text := s.rest("GET", path, "", nil); code != 401 {
			t.Errorf("GET %s without a token: %d %s", path, code, text)
		}
	}
	for _, path := range []string{"/healthz", "/openapi.json"} {
		if code, text := s.rest("GET", path, "", nil); code != 200 {
			t.Errorf("GET %s: %d %s", path, code, text)
		}
	}
}
