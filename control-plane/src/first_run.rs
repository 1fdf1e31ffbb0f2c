//! The first start: a tenant, its owner, and the key that edges verify capabilities with. Later
//! starts find them. Until the owner has chosen a password, each start makes a link for doing so.

use std::{collections::BTreeSet, fmt};

use zeroize::Zeroizing;

use crate::{
    auth::{
        one_time::{LinkSecret, SET_UP_MS},
        password::{Asker, Passwords},
    },
    clock::Clock,
    options::Options,
    peers::Peers,
    random,
    signer::Signer,
    store::{
        self, Change, Store,
        audit::{Actor, Entry},
        one_time_link::{self, OneTimeLink, Purpose},
        stamp::Stamp,
        tenant::Tenant,
        user::{About, User},
    },
};

/// The tenant of a deployment for one customer.
const TENANT: &str = "default";

/// What the owner of a new deployment needs to know.
pub struct FirstRun {
    /// With which the owner logs in.
    pub owner_email: String,
    /// The secret of the link by which the owner chooses a password; `None` if the operator has set
    /// one. Shown nowhere else.
    pub set_up: Option<Zeroizing<String>>,
}

impl FirstRun {
    /// Path and fragment of the set-up link, behind the console's address.
    pub fn set_up_path(&self) -> Option<Zeroizing<String>> {
        let secret = self.set_up.as_ref()?;
        Some(Zeroizing::new(format!("/setup#{}", secret.as_str())))
    }
}

impl fmt::Debug for FirstRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner_email, set_up: _ } = self;
        f.debug_struct("FirstRun").field("owner_email", owner_email).finish_non_exhaustive()
    }
}

/// Is the first start still to come, since there is no tenant?
pub(crate) async fn is_due(store: &Store) -> store::Result<bool> {
    Ok(store::tenant::list(&mut store.read().await?).await?.is_empty())
}

/// Makes what is missing. Returns something as long as the owner has news to read: on the first
/// start, and while no password has been chosen.
pub(crate) async fn prepare(
    store: &Store,
    passwords: &Passwords,
    signer: &Signer,
    peers: &Peers,
    options: &Options,
    clock: &Clock,
) -> anyhow::Result<Option<FirstRun>> {
    let now_ms = clock.now_ms();
    let first = if is_due(store).await? {
        Some(make_owner(store, passwords, options, now_ms).await?)
    } else {
        finish_owner(store, passwords, options, now_ms).await?
    };
    signer.publish(store, peers, now_ms).await?;
    Ok(first)
}

async fn make_owner(
    store: &Store,
    passwords: &Passwords,
    options: &Options,
    now_ms: u64,
) -> anyhow::Result<FirstRun> {
    let password_hash = match options.owner_password()? {
        Some(password) => passwords.hash(password, Asker::Deployment).await?,
        None => String::new(),
    };
    let tenant =
        Tenant { id: random::id(), name: TENANT.to_owned(), is_operator: true, created_ms: now_ms };
    let owner = User {
        id: random::id(),
        tenant: tenant.id,
        is_operator_tenant: true,
        email: options.owner_email.to_lowercase(),
        password_hash,
        is_owner: true,
        permissions: BTreeSet::new(),
        created_ms: now_ms,
        about: About::default(),
        stamp: Stamp::default(),
    };
    let mut change = store.change().await?;
    store::tenant::insert(&mut change, &tenant).await?;
    store::user::insert(&mut change, &owner).await?;
    let set_up = match owner.password_hash() {
        Some(_) => None,
        None => Some(set_up_link(&mut change, &owner, now_ms).await?),
    };
    let detail = serde_json::json!({ "owner": &owner.email });
    change.commit(entry(tenant.id, "tenant.create", &tenant.name, detail, now_ms)).await?;
    Ok(FirstRun { owner_email: owner.email, set_up })
}

/// For an owner who has not chosen a password yet: takes the one that the operator has set meanwhile,
/// or makes another link. Earlier links stay good, since another control plane may just have shown one.
async fn finish_owner(
    store: &Store,
    passwords: &Passwords,
    options: &Options,
    now_ms: u64,
) -> anyhow::Result<Option<FirstRun>> {
    let owner = store::user::without_password(&mut store.read().await?).await?;
    let Some(owner) = owner else { return Ok(None) };
    let hash = match options.owner_password()? {
        Some(password) => Some(passwords.hash(password, Asker::Deployment).await?),
        None => None,
    };
    let mut change = store.change().await?;
    let (action, set_up) = match &hash {
        Some(hash) => {
            store::user::set_password(&mut change, owner.id, hash).await?;
            one_time_link::delete_of(&mut change, owner.id).await?;
            ("user.password", None)
        }
        None => ("user.set_up_link", Some(set_up_link(&mut change, &owner, now_ms).await?)),
    };
    let null = serde_json::Value::Null;
    change.commit(entry(owner.tenant, action, &owner.email, null, now_ms)).await?;
    Ok(Some(FirstRun { owner_email: owner.email, set_up }))
}

async fn set_up_link(
    change: &mut Change,
    owner: &User,
    now_ms: u64,
) -> store::Result<Zeroizing<String>> {
    let secret = LinkSecret::draw();
    let link = OneTimeLink { user: owner.id, expires_ms: now_ms + SET_UP_MS };
    one_time_link::insert(change, &secret.digest(), Purpose::SetUp, &link).await?;
    Ok(secret.into_text())
}

fn entry(
    tenant: protocol::id::TenantId,
    action: &'static str,
    subject: &str,
    detail: serde_json::Value,
    at_ms: u64,
) -> Entry {
    Entry { tenant, actor: Actor::System, action, subject: subject.to_owned(), detail, at_ms }
}
