// Types that clients made from the OpenAPI document must have; `.ci/openapi` has tsc check them.
import type { components } from "./schema";
import type { ReadGoalResponse, SessionView } from "./client";

type Schemas = components["schemas"];

export function showOf(session: Schemas["SessionView"], same: SessionView): string[] {
  return [session, same].flatMap((each) => (each.show_goal_pairs ?? []).map((pair): string => pair.show_goal ?? ""));
}

export function whatItPaysFor(goal: ReadGoalResponse): string {
  switch (goal.kind) {
    case "FundingGoal":
      return goal.metadata.show?.title ?? "";
    case "TriggerGoal":
      return goal.metadata.exclusive?.title ?? "";
    case "ShowGoal":
      return goal.metadata.funding_goal_id ?? "";
    case "KaraokeGoal":
    case "ExclusiveGoal":
      return goal.id;
  }
}

type Kinds = "FundingGoalView" | "TriggerGoalView" | "ShowGoalView" | "KaraokeGoalView" | "ExclusiveGoalView";

export function titleOf(goal: Schemas[Kinds]): string {
  return goal.kind === "FundingGoal" ? (goal.metadata.show?.title ?? "") : goal.levels.map((level) => level.title).join();
}

export function mistaken(session: Schemas["SessionView"], goal: Schemas[Kinds]): void {
  // @ts-expect-error - an id is a string
  session.show_goal_pairs![0].show_goal = 7;
  // @ts-expect-error - a ShowGoal asks for nothing
  if (goal.kind === "ShowGoal") goal.metadata.exclusive!.title.trim();
}
