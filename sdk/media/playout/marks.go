package playout

// marksKept bounds how many payloads are told apart. Where there are more, tiny
// ones share the origin of the one before.
const marksKept = 32

// mark is where a payload begins in the stream, and its origin stamp.
type mark struct {
	position int64
	origin   int64
}

// marks is a queue of the payloads held, oldest first.
type marks struct {
	queue       [marksKept]mark
	head, count int
}

// add notes that a payload begins at a stream position.
func (m *marks) add(position, origin int64) {
	if m.count == marksKept {
		return
	}
	m.queue[(m.head+m.count)%marksKept] = mark{position, origin}
	m.count++
}

// forget drops the payloads that end at or before a stream position. Positions must not go down.
func (m *marks) forget(position int64) {
	for m.count > 1 && m.queue[(m.head+1)%marksKept].position <= position {
		m.head = (m.head + 1) % marksKept
		m.count--
	}
}

// at returns the origin of a stream position, and forgets the payloads before it.
func (m *marks) at(position int64) int64 {
	m.forget(position)
	return m.queue[m.head].origin
}
