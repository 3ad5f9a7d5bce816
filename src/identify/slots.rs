//! Where a request may carry its token. The slot is always taken out before the upstream.
/// A place for a token in a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// `Authorization: Bearer <token>` (RFC 6750), also gRPC metadata.
    Bearer,
    /// `Authorization: token <token>`, as Jupyter clients send it.
    Token,
    /// `X-Api-Key: <token>`, as Anthropic clients send it.
    XApiKey,
    /// `api-key: <token>`, as Azure OpenAI clients send it.
    ApiKey,
}
