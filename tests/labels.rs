//! What metrics call things and what the product calls them are the same words.

use staunch::metrics::REFUSALS;
use staunch::protocol::RefusalReason;
use std::collections::BTreeSet;

/// Every variant once. A variant that is added and not listed here does not compile.
fn after(why: RefusalReason) -> Option<RefusalReason> {
    match why {
        RefusalReason::NoToken => Some(RefusalReason::InvalidToken),
        RefusalReason::InvalidToken => Some(RefusalReason::ServiceKey),
        RefusalReason::ServiceKey => Some(RefusalReason::ExpiredToken),
        RefusalReason::ExpiredToken => Some(RefusalReason::TwoTokens),
        RefusalReason::TwoTokens => Some(RefusalReason::Forbidden),
        RefusalReason::Forbidden => Some(RefusalReason::IssuerUnavailable),
        RefusalReason::IssuerUnavailable => Some(RefusalReason::BadGateway),
        RefusalReason::BadGateway => Some(RefusalReason::Draining),
        RefusalReason::Draining => Some(RefusalReason::Overloaded),
        RefusalReason::Overloaded => Some(RefusalReason::BadRequest),
        RefusalReason::BadRequest => Some(RefusalReason::HeadTooLarge),
        RefusalReason::HeadTooLarge => Some(RefusalReason::MethodNotAllowed),
        RefusalReason::MethodNotAllowed => Some(RefusalReason::BadAnswer),
        RefusalReason::BadAnswer => Some(RefusalReason::UpstreamTimeout),
        RefusalReason::UpstreamTimeout => Some(RefusalReason::Misdirected),
        RefusalReason::Misdirected => Some(RefusalReason::Unmaskable),
        RefusalReason::Unmaskable => Some(RefusalReason::UnmaskableAnswer),
        RefusalReason::UnmaskableAnswer => None,
    }
}

#[test]
fn every_refusal_has_its_own_label_and_every_label_its_refusal() {
    let reasons: Vec<RefusalReason> =
        std::iter::successors(Some(RefusalReason::NoToken), |why| after(*why)).collect();
    let codes: BTreeSet<&str> = reasons.iter().map(|why| why.code()).collect();
    assert_eq!(codes.len(), reasons.len(), "two reasons share a code");
    assert_eq!(REFUSALS.len(), codes.len());
    assert_eq!(codes, BTreeSet::from(REFUSALS));
}
