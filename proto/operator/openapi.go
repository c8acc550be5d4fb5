package operator

import _ "embed"

//go:embed operator.openapi.json
var openAPI []byte

// OpenAPI is the OpenAPI 3.1 description of the REST API, as JSON, made from
// operator.proto. Do not change the bytes.
func OpenAPI() []byte { return openAPI }
