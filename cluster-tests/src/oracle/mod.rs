//! What must be true of a file system, apart from how it is built: the judges of the tests.
