package session

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// encode is proto.Marshal for messages that repeat what others said: boards,
// switches, filesystems of images. A string that is not UTF-8 is mended in
// place, since the encoding allows none and the message matters more.
func encode(m proto.Message) ([]byte, error) {
	data, err := proto.Marshal(m)
	if err == nil {
		return data, nil
	}
	if err := protorange.Range(m.ProtoReflect(), mend); err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

// mend visits one value. Our messages have no maps.
func mend(at protopath.Values) error {
	last := at.Index(-1)
	text, isString := last.Value.Interface().(string)
	if !isString {
		return nil
	}
	valid := protoreflect.ValueOfString(strings.ToValidUTF8(text, "\uFFFD"))
	switch holder := at.Index(-2); last.Step.Kind() {
	case protopath.FieldAccessStep:
		holder.Value.Message().Set(last.Step.FieldDescriptor(), valid)
	case protopath.ListIndexStep:
		holder.Value.List().Set(last.Step.ListIndex(), valid)
	}
	return nil
}
