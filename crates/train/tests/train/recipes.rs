//! Recipes: every shipped one loads and is complete; files and overrides are checked key by key.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aloud_kernels::backend::KlDirection;
use aloud_method::candidates::Candidates;
use aloud_method::targets::TargetPolicy;
use aloud_model::decoder::Trained;
use aloud_model::lora::Projection;
use aloud_train::optimizer::{Decay, Schedule};
use aloud_train::pretrain::recipe::PretrainRecipe;
use aloud_train::settings::{Settings, keys, resolve};
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage2::recipe::{ReinforceRecipe, RolloutExits};
use proptest::prelude::*;

/// Every shipped recipe, by name.
fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn resolved<T: Settings>(overrides: &[&str]) -> Result<T, String> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    resolve(None, &overrides).map_err(|error| error.to_string())
}

fn with(overrides: &[&str]) -> Result<DistillRecipe, String> {
    resolved(overrides)
}

fn from_text(text: &str) -> Result<DistillRecipe, String> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    resolve(Some(file.path()), &[])
        .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "recipe.toml"))
}

/// The recipe loads; its header says how to use it; it holds every key, each with a comment above.
fn check_shipped<T: Settings>(path: &Path, command: &str) {
    resolve::<T>(Some(path), &[]).unwrap();
    let text = fs::read_to_string(path).unwrap();
    let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
    let name = format!("recipes/{}", path.file_name().unwrap().to_string_lossy());
    assert!(header.iter().any(|line| line.contains(command) && line.contains(&name)), "{header:?}");
    assert!(header.iter().any(|line| line.contains("--set ")), "{name} has no example override");
    let (mut group, mut found, mut above) = (String::new(), BTreeSet::new(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            group = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(above.starts_with("# "), "{name}: no comment above `{key}`");
            found.insert(format!("{group}{key}"));
        }
        above = line;
    }
    assert_eq!(found, keys::<T>().unwrap().into_iter().collect(), "{name}");
}

#[test]
fn shipped_recipes_load_and_hold_every_key_with_a_comment_above() {
    let (mut n_distill, mut n_pretrain) = (0, 0);
    for path in shipped() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("distill-") {
            check_shipped::<DistillRecipe>(&path, "aloud distill");
            n_distill += 1;
        } else if name.starts_with("reinforce") {
            check_shipped::<ReinforceRecipe>(&path, "aloud reinforce");
        } else {
            let known = ["tiny-reasoner", "toy-"];
            assert!(known.iter().any(|known| name.starts_with(known)), "{name}: a recipe that no test loads");
            check_shipped::<PretrainRecipe>(&path, "aloud pretrain");
            n_pretrain += 1;
        }
    }
    assert!(n_distill >= 3 && n_pretrain == 4, "{n_distill} {n_pretrain}");
}

#[test]
fn defaults_are_those_of_the_design() {
    let recipe = with(&[]).unwrap();
    assert_eq!(recipe, DistillRecipe::default());
    assert_eq!(recipe.candidates.depths(30).unwrap(), [5, 10, 15, 20, 25]);
    assert_eq!(recipe.candidates.depths(28).unwrap(), [5, 10, 15, 20, 25]);
    assert_eq!(recipe.candidates.depths(6).unwrap(), [5]);
    assert_eq!((recipe.loss.exit_samples, recipe.loss.kl_direction), (4, KlDirection::Reverse));
    assert_eq!((recipe.lora.rank, recipe.lora.alpha), (8, 16.0));
    use Projection::{KProj, OProj, QProj, VProj};
    assert_eq!(recipe.lora.targets, [QProj, KProj, VProj, OProj]);
    assert_eq!((recipe.target.policy, recipe.trained), (TargetPolicy::Exact, Trained::Adapters));
}

#[test]
fn overrides_are_typed_and_come_last() {
    let recipe = with(&[
        "target.kl_factor=2",
        "candidates=[2, 4]",
        "lora.targets=[\"q_proj\", \"down_proj\"]",
        "loss.kl_direction=forward",
        "loss.detach_heads = true",
        "seed=7",
        "seed=8",
    ])
    .unwrap();
    assert_eq!(recipe.target.kl_factor, 2.0);
    assert_eq!(recipe.candidates, Candidates::Depths(vec![2, 4]));
    assert_eq!(recipe.lora.targets, [Projection::QProj, Projection::DownProj]);
    assert_eq!((recipe.loss.kl_direction, recipe.loss.detach_heads, recipe.seed), (KlDirection::Forward, true, 8));
    assert_eq!(with(&["candidates=every 3"]).unwrap().candidates, Candidates::Every(3));

    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(file.path(), "seed = 1\ntrained = \"full\"\n[lora]\nrank = 4\n").unwrap();
    let recipe: DistillRecipe = resolve(Some(file.path()), &["lora.rank=16".to_owned()]).unwrap();
    assert_eq!((recipe.seed, recipe.trained, recipe.lora.rank, recipe.lora.alpha), (1, Trained::Full, 16, 16.0));
}

#[test]
fn a_written_recipe_reads_back() {
    let recipe = with(&["candidates=[1, 7]", "learning_rate.heads=0.002", "optimizer.epsilon=1e-9"]).unwrap();
    assert_eq!(from_text(&toml::to_string_pretty(&recipe).unwrap()).unwrap(), recipe);
}

#[test]
fn unknown_keys_name_the_nearest() {
    let error = |text| with(&[text]).unwrap_err();
    assert_eq!(error("lora.rnk=4"), "override `lora.rnk=4`: unknown key `lora.rnk`; did you mean `lora.rank`?");
    assert!(error("kl_factor=1").ends_with("did you mean `target.kl_factor`?"));
    assert!(error("loss.kl_factor=1").ends_with("did you mean `target.kl_factor`?"));
    assert!(error("seeed=1").ends_with("did you mean `seed`?"));
    assert!(error("wxyz=1").contains("valid keys: batch.accumulation, batch.tokens_per_step"));
    assert!(error("seed.x=1").contains("unknown key `seed.x`"));
    assert_eq!(error("seed"), "override `seed`: write KEY=VALUE, for example `seed=1`");
    assert_eq!(
        from_text("[lora]\nrank = 2\nalpa = 3\n").unwrap_err(),
        "`recipe.toml`: unknown key `lora.alpa`; did you mean `lora.alpha`?"
    );
    assert!(from_text("[lorra]\nrank = 2\n").unwrap_err().contains("unknown key `lorra`"));
    assert!(from_text("seed = \n").unwrap_err().starts_with("`recipe.toml` is not TOML: "));
    let missing = resolve::<DistillRecipe>(Some(Path::new("no/such.toml")), &[]).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read `no/such.toml`: "), "{missing}");
}

#[test]
fn values_of_the_wrong_type_name_key_and_value() {
    let error = |text| with(&[text]).unwrap_err();
    assert!(error("lora.rank=high").contains("`lora.rank` cannot be \"high\": invalid type: string \"high\""));
    assert!(error("lora.rank=-1").contains("`lora.rank` cannot be -1: "));
    assert!(error("lora.rank=1.5").contains("`lora.rank` cannot be 1.5: "));
    assert!(error("trained=half").contains("unknown variant `half`, expected one of `lora`, `full`, `exits`"));
    assert!(error("lora.targets=[\"lm_head\"]").contains("unknown variant `lm_head`, expected one of `q_proj`"));
    assert!(error("candidates=every other").contains("write \"every 5\" or a list of depths"));
    assert!(error("candidates=every 0").contains("write \"every 5\" or a list of depths"));
    assert!(error("lora=3").contains("it is a group of keys; set `lora.alpha`, `lora.rank`, `lora.targets`"));
    assert!(error("loss.detach_heads=1").contains("expected a boolean"));
}

#[test]
fn rules_name_their_keys() {
    let error = |overrides: &[&str]| with(overrides).unwrap_err();
    assert_eq!(error(&["target.kl_factor=0"]), "`target.kl_factor`: it must be above 0 and finite, found 0");
    assert!(error(&["target.kl_factor=nan"]).starts_with("`target.kl_factor`: "));
    assert!(error(&["target.kl_factor=inf"]).starts_with("`target.kl_factor`: "));
    assert_eq!(error(&["held_out=1"]), "`held_out`: it must be at least 0 and below 1, found 1");
    assert_eq!(error(&["batch.accumulation=0"]), "`batch.accumulation`: it must be at least 1, found 0");
    assert_eq!(error(&["lora.targets=[\"q_proj\", \"q_proj\"]"]), "`lora.targets`: a layer is named twice");
    assert!(error(&["lora.targets=[]"]).starts_with("`trained` and `lora.targets`: "));
    assert!(with(&["lora.targets=[]", "trained=full"]).is_ok());
    let error_of_rates = error(&["learning_rate.adapters=0", "learning_rate.heads=0"]);
    assert!(error_of_rates.starts_with("`learning_rate.adapters` and `learning_rate.heads`: both are 0"));
    assert!(error(&["loss.exit_weight=0"]).starts_with("`loss.exit_weight` and `learning_rate.heads`: "));
    assert!(with(&["loss.exit_weight=0", "learning_rate.heads=0"]).is_ok());
    let warmup = error(&["schedule.warmup_steps=20", "schedule.max_steps=10"]);
    assert!(warmup.starts_with("`schedule.warmup_steps` and `schedule.max_steps`: the warm-up of 20 steps is longer"));
    assert!(error(&["held_out=0"]).starts_with("`run.evaluate_every` and `held_out`: "));
    let candidates = with(&["candidates=[5, 30]"]).unwrap().candidates_of(30).unwrap_err().to_string();
    assert!(candidates.starts_with("`candidates`: a model of 30 blocks needs strictly increasing depths from 1 to 29"));
    assert!(Candidates::Every(5).depths(5).is_err() && Candidates::Every(5).depths(0).is_err());
}

#[test]
fn schedules_follow_from_the_planned_steps() {
    let recipe = with(&["schedule.warmup_fraction=0.1"]).unwrap();
    let expected = Schedule { warmup_steps: 4, steps: 33, decay: Decay::Cosine };
    assert_eq!(recipe.schedule.schedule(33), expected);
    let recipe = with(&["schedule.max_steps=20", "schedule.warmup_steps=5", "schedule.decay=linear"]).unwrap();
    let expected = Schedule { warmup_steps: 5, steps: 20, decay: Decay::Linear };
    assert_eq!(recipe.schedule.schedule(100), expected);
    assert_eq!(recipe.schedule.schedule(3).steps, 3, "three steps end before 20");
    assert_eq!(recipe.schedule.schedule(3).factor(2), 1.0, "a warm-up of three steps");
}

#[test]
fn rules_of_reinforcement_name_their_keys() {
    assert_eq!(resolved::<ReinforceRecipe>(&[]).unwrap(), ReinforceRecipe::default());
    let error = |overrides: &[&str]| resolved::<ReinforceRecipe>(overrides).unwrap_err();
    for n in [0, 1] {
        assert_eq!(
            error(&[&format!("rollouts.group_size={n}")]),
            format!(
                "`rollouts.group_size`: a rollout is compared with the others of its prompt, so it must be at least 2, \
                 found {n}"
            )
        );
    }
    assert!(resolved::<ReinforceRecipe>(&["rollouts.group_size=2"]).is_ok());
    // A cut distribution, whichever way it is asked for.
    for cut in
        ["rollouts.top_p=0.9", "rollouts.top_p=0", "rollouts.top_p=1.5", "rollouts.top_p=nan", "rollouts.top_k=5"]
    {
        let message = error(&[cut]);
        assert!(
            message.starts_with("`rollouts.top_p` and `rollouts.top_k`: tokens must be drawn from the whole"),
            "{cut}"
        );
    }
    for key in [
        "rollouts.prompts_per_step",
        "rollouts.max_new_tokens",
        "rollouts.max_sequences",
        "rollouts.rows_per_pass",
        "schedule.steps",
        "stop.patience",
    ] {
        assert_eq!(error(&[&format!("{key}=0")]), format!("`{key}`: it must be at least 1, found 0"));
    }
    for (key, values) in [
        ("rollouts.temperature", &["0", "-1", "nan", "inf"][..]),
        ("rollouts.exit_offset", &["nan", "inf"]),
        ("reward.depth_penalty", &["-0.1", "nan", "inf"]),
        ("reward.token_cost", &["-0.1", "nan"]),
        ("reward.kl_coefficient", &["-0.1", "inf"]),
        ("learning_rate.adapters", &["-1e-3", "1", "nan"]),
        ("learning_rate.weights", &["1"]),
        ("learning_rate.heads", &["1"]),
        ("stop.min_token_entropy", &["-1"]),
        ("stop.max_kl_per_token", &["nan", "-1"]),
        ("stop.min_reward_share", &["1", "-0.5"]),
        ("run.ratio_tolerance", &["0", "nan"]),
        ("optimizer.beta2", &["1"]),
    ] {
        for value in values {
            let message = error(&[&format!("{key}={value}")]);
            assert!(message.starts_with(&format!("`{key}`: it must be ")), "{key}={value}: {message}");
        }
    }
    assert!(
        error(&["reward.depth_penalty_form=median"]).contains("unknown variant `median`, expected `mean` or `max`")
    );
    let renamed = error(&["stop.max_kl=200"]);
    assert!(renamed.contains("unknown key `stop.max_kl`; it was in nats per response"), "{renamed}");
    assert!(renamed.contains("set `stop.max_kl_per_token`"), "{renamed}");
    // The default price of depth is not 0.
    let exits = error(&["rollouts.exits=off"]);
    assert!(exits.starts_with("`rollouts.exits` and `reward.depth_penalty`: "), "{exits}");
    assert!(exits.ends_with("set `reward.depth_penalty=0`"), "{exits}");
    let off = resolved::<ReinforceRecipe>(&["rollouts.exits=off", "reward.depth_penalty=0"]).unwrap();
    assert_eq!(off.rollouts.exits, RolloutExits::Off);
    assert!(error(&["rollouts.exits=none"]).contains("expected `on` or `off`"));
    assert!(error(&["reward.kl_reference=teacher"]).contains("expected `base` or `stage1`"));
    assert!(error(&["kl_coefficient=1"]).ends_with("did you mean `reward.kl_coefficient`?"));
}

#[test]
fn rules_of_pretraining_name_their_keys() {
    assert_eq!(resolved::<PretrainRecipe>(&[]).unwrap(), PretrainRecipe::default());
    let error = |overrides: &[&str]| resolved::<PretrainRecipe>(overrides).unwrap_err();
    for key in [
        "model.n_blocks",
        "model.hidden_size",
        "model.intermediate_size",
        "model.n_heads",
        "model.n_kv_heads",
        "model.context",
        "data.levels",
        "schedule.steps",
        "tokens_per_step",
    ] {
        assert_eq!(error(&[&format!("{key}=0")]), format!("`{key}`: it must be at least 1, found 0"));
    }
    // Rotations need heads of even width.
    let width = error(&["model.hidden_size=100", "model.n_heads=4"]);
    assert!(width.starts_with("`model.hidden_size` and `model.n_heads`: "), "{width}");
    let groups = error(&["model.n_heads=4", "model.n_kv_heads=3"]);
    assert_eq!(groups, "`model.n_heads` and `model.n_kv_heads`: 4 is not a multiple of 3");
    assert!(error(&["data.curriculum=1.1"]).starts_with("`data.curriculum`: it must be from 0 to 1"));
    assert!(error(&["data.think_share=nan"]).starts_with("`data.think_share`: it must be from 0 to 1"));
    for rate in ["0", "1", "nan"] {
        let message = error(&[&format!("learning_rate={rate}")]);
        assert!(message.starts_with("`learning_rate`: it must be above 0 and below 1"), "{message}");
    }
    assert!(error(&["optimizer.clip_norm=-1"]).starts_with("`optimizer.clip_norm`: "));
}

proptest! {
    #[test]
    fn any_override_is_an_error_or_a_recipe(text in "[a-z_.]{0,20}=?[ -~\\n]{0,20}") {
        if let Ok(recipe) = resolve::<DistillRecipe>(None, &[text]) {
            prop_assert!(toml::to_string(&recipe).is_ok());
        }
    }

    #[test]
    fn any_value_of_any_key_is_an_error_or_a_recipe(
        key in prop::sample::select(keys::<DistillRecipe>().unwrap()),
        value in prop_oneof![any::<i64>().prop_map(|x| x.to_string()), any::<f64>().prop_map(|x| format!("{x:?}")), "[ -~]{0,12}"],
    ) {
        if let Ok(recipe) = resolve::<DistillRecipe>(None, &[format!("{key}={value}")]) {
            prop_assert!(toml::to_string(&recipe).is_ok());
        }
    }
}
