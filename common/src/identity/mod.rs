//! Certificates and roles.
