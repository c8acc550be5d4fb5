package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// healthLimit bounds all checks together.
const healthLimit = 3 * time.Second

// health answers GET /healthz for anybody: 200 when all parts work, else 503,
// with each part by name. It holds no secret and nothing about machines.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthLimit)
	defer cancel()
	parts := map[string]string{}
	code := http.StatusOK
	for _, check := range append([]Check{{"database", s.databaseHealthy}}, s.c.Checks...) {
		parts[check.Name] = "ok"
		if err := check.Run(ctx); err != nil {
			parts[check.Name] = err.Error()
			code = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"healthy": code == http.StatusOK, "parts": parts}) // the asker may have gone
}

// databaseHealthy says nothing of addresses or users, which an error of the
// database may hold.
func (s *Server) databaseHealthy(ctx context.Context) error {
	if err := s.c.Store.Healthy(ctx); err != nil {
		s.log.Warn("database is not healthy", "err", err)
		return errors.New("does not answer; the log of the controller says why")
	}
	return nil
}

func statusText(err error) string     { return status.Convert(err).Message() }
func statusCode(err error) codes.Code { return status.Code(err) }
