//! Paths inside a release: bytes, relative, without `.` and `..`; and how they are written in text.
