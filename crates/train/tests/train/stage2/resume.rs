//! Runs that go on from a checkpoint: their own, or stage 1's; and checkpoints that they cannot go on from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aloud_kernels::cpu::Cpu;
use aloud_model::checkpoint::files::Tensor;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, Lineage, Stage, TrainedItems};
use aloud_model::checkpoint::{self, Checkpoint, TrainingState};
use aloud_model::decoder::Trained;
use aloud_train::optimizer::OptimizerSettings;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage2::reinforce::ReinforceError;
use aloud_train::trainee::Trainee;
use aloud_train::training::TrainingError;

use super::toy::{BOTH, Toy, load, model, parameters, recipe, reinforce, says_good, stage1, stage1_of, start};
use crate::fixtures::timeless;

#[test]
fn a_resumed_run_equals_an_unbroken_one() {
    let kl = ["reward.kl_coefficient=0.05", "reward.kl_reference=stage1", "reward.depth_penalty=0.3"];
    for trained in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
        let (unbroken, _) = reinforce(&whole, trained, &kl, &mut Toy::good()).unwrap();

        // Rewards cannot be had in the middle of step 5, two steps after a checkpoint.
        let error = reinforce(&broken, trained, &kl, &mut Toy::asleep_at_5(says_good)).unwrap_err();
        assert!(matches!(&error, TrainingError::Stage(ReinforceError::Task { step: 5, .. })), "{error}");
        let message = error.to_string();
        assert!(message.starts_with("step 5: the judge is asleep; "), "{message}");
        assert!(message.contains("steps up to the last checkpoint are kept"), "{message}");
        assert_eq!(timeless(&broken).len(), 4, "four steps were done");
        assert_eq!(RunDirectory::latest(&broken).unwrap().unwrap().step, 3);

        let (resumed, steps) = reinforce(&broken, trained, &kl, &mut Toy::good()).unwrap();
        assert_eq!(steps.iter().map(|step| step.step).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(timeless(&whole), timeless(&broken));
        let (expected, found) = (parameters(&load(&unbroken.checkpoint)), parameters(&load(&resumed.checkpoint)));
        assert_eq!(expected.len(), found.len());
        for (name, expected) in &expected {
            assert!(found[name] == *expected, "{trained:?}: {name} differs");
        }
        let moved = parameters(&stage1(trained));
        assert!(moved.iter().all(|(name, start)| expected[name] != *start), "everything was trained");
        let state = |path: &Path| TrainingState::read(path).unwrap().unwrap();
        assert!(state(&unbroken.checkpoint) == state(&resumed.checkpoint));

        // A finished run is done: going on with it takes no step and changes nothing.
        let (again, steps) = reinforce(&broken, trained, &kl, &mut Toy::good()).unwrap();
        assert_eq!((again, steps.len()), (resumed, 0));
        assert_eq!(timeless(&whole), timeless(&broken));
    }
}

#[test]
fn a_checkpoint_without_its_training_state_is_not_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (end, _) = reinforce(&run, Trained::Adapters, &[], &mut Toy::good()).unwrap();
    std::fs::remove_dir_all(end.checkpoint.join("training_state")).unwrap();
    let error = reinforce(&run, Trained::Adapters, &[], &mut Toy::good()).unwrap_err();
    assert!(matches!(&error, TrainingError::Resume { step: 6, .. }), "{error}");
    assert!(error.to_string().contains("has no training state of step 6; start a new run directory"), "{error}");
}

#[test]
fn what_was_made_for_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = Toy::indifferent();
    let foreign = stage1_of(&model(2), Trained::Adapters);
    let error = start(&folder.path().join("foreign"), &foreign, &recipe(&[]), &mut task).unwrap_err().to_string();
    assert!(error.contains(&model(1).identity.sha256) && error.contains(&model(2).identity.sha256), "{error}");

    // A run whose checkpoint was replaced by one of another model.
    let run = folder.path().join("run");
    let (end, _) = reinforce(&run, Trained::Adapters, &["schedule.steps=3"], &mut task).unwrap();
    let state = TrainingState::read(&end.checkpoint).unwrap();
    foreign.save(&end.checkpoint, state.as_ref()).unwrap();
    let error = reinforce(&run, Trained::Adapters, &["schedule.steps=3"], &mut task).unwrap_err();
    assert!(matches!(&error, TrainingError::Checkpoint(_)), "{error}");
    assert!(error.to_string().contains("was trained for the base model"), "{error}");
}

#[test]
fn stage_2_goes_on_with_the_lineage_of_stage_1() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&["schedule.steps=1"]);
    let keys = BTreeSet::from([ItemKey::of_question("one"), ItemKey::of_question("two")]);
    let items = ItemSet::new("toys".into(), "train".into(), 0, &keys, 0);
    let distill = Stage {
        command: "distill".into(),
        version: "0.1.0".into(),
        settings: serde_json::json!({"target": {"kl_factor": 30.0, "policy": "compat"}}),
        inputs: BTreeMap::new(),
        items: TrainedItems::Known(vec![items]),
    };
    let stage1 = Checkpoint {
        lineage: Some(Lineage { stages: vec![distill.clone()] }),
        trained_items: Some(keys.clone()),
        ..stage1(Trained::Adapters)
    };
    let mut task = Toy::indifferent();
    let path = folder.path().join("run");
    let end = start(&path, &stage1, &recipe, &mut task).unwrap().run(&mut |_| {}).unwrap();
    let checkpoint = load(&end.checkpoint);
    let stages = &checkpoint.lineage.as_ref().unwrap().stages;
    assert_eq!((stages.len(), &stages[0]), (2, &distill));
    assert_eq!(stages[1].command, "reinforce");
    assert!(stages[1].settings["rollouts"]["group_size"] == 4, "{}", stages[1].settings);
    // The toy task does not say what its items are.
    assert_eq!(checkpoint.trained_items, Some(keys));
    assert_eq!(checkpoint.history().unknown_items(), Some("the task does not say what its items are"));
    let target = checkpoint.target().unwrap();
    assert_eq!((target.kl_factor, target.policy.as_str()), (30.0, "compat"));
}

#[test]
fn weights_of_a_checkpoint_that_do_not_fit_are_errors() {
    let model = model(1);
    let error = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut checkpoint = stage1(Trained::Full);
        if let checkpoint::Trained::Full(weights) = &mut checkpoint.trained {
            change(weights);
        }
        Trainee::from_checkpoint(&Cpu::new(1), &model, &checkpoint, OptimizerSettings::default())
            .unwrap_err()
            .to_string()
    };
    let name = "model.layers.2.mlp.up_proj.weight";
    let missing = error(&|weights| assert!(weights.remove(name).is_some()));
    assert_eq!(
        missing,
        format!("tensor `{name}` of the checkpoint: expected the shape [48, 32], found no such tensor")
    );
    let turned = error(&|weights| {
        let values = weights[name].to_f32().unwrap();
        weights.insert(name.to_owned(), Tensor::from_f32(&[32, 48], &values).unwrap());
    });
    assert_eq!(turned, format!("tensor `{name}` of the checkpoint: expected the shape [48, 32], found [32, 48]"));
    let integers = error(&|weights| {
        weights.insert(name.to_owned(), Tensor::from_u32(&[48, 32], &[0; 48 * 32]).unwrap());
    });
    assert_eq!(integers, format!("tensor `{name}` of the checkpoint is not made of floats"));
}
