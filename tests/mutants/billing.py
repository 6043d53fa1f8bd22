"""Seeded bugs of pushing and webhooks: (name, story, path, find, replace, tests)."""

_AT = "tests/billing/"

BUGS: list[tuple[str, str, str, str, str, tuple[str, ...]]] = [
    (
        "M7",
        "pushed total read and written without a lock",
        "billing/services/plan_sql.py",
        "FOR UPDATE OF k SKIP LOCKED",
        "",
        (_AT + "test_push_faults.py::test_two_planners_at_once_intend_a_delta_once",),
    ),
    (
        "M8",
        "pushed total keyed without customer",
        "billing/services/planning.py",
        "        known[_key(key)].intended[day] = intended",
        "        for facts in known.values():\n            facts.intended[day] = intended",
        (_AT + "test_pushes.py::test_tenants_and_customers_never_mix",),
    ),
    (
        "M9",
        "identifier made of the total",
        "billing/services/planning.py",
        "        sequence = known.next_sequence + len(rows)",
        "        sequence = int(exact_sum([*known.intended.values(), each.delta]))",
        (_AT + "test_pushes.py::test_a_total_that_returns_to_an_old_value_is_said_each_time",),
    ),
    (
        "M10",
        "new identifier on retry",
        "billing/services/delivery.py",
        "            identifier=self.identifier,",
        '            identifier=f"{self.identifier}-{self.attempts}",',
        (_AT + "test_push_faults.py::test_a_fault_on_the_way_neither_loses_nor_doubles",),
    ),
    (
        "M11",
        "duplicate answer taken for an error",
        "billing/services/delivery.py",
        'Reaction("acknowledged" if before else "needs_review", before)',
        'Reaction("parked", before, hold="duplicate")',
        (_AT + "test_push_faults.py::test_a_stored_500_is_left_behind_by_a_new_http_key",),
    ),
    (
        "M12",
        "sent again after 24 hours",
        "billing/services/delivery.py",
        "RESEND_MAX = timedelta(hours=23)",
        "RESEND_MAX = timedelta(hours=230)",
        (
            _AT
            + "test_push_faults.py::test_after_23_hours_nothing_is_sent_again_and_summaries_decide",
        ),
    ),
    (
        "M13",
        "somebody else's duplicate swallowed",
        "billing/services/delivery.py",
        '"acknowledged" if before else "needs_review"',
        '"acknowledged"',
        (_AT + "test_push_faults.py::test_a_duplicate_at_the_first_try_is_not_taken_for_ours",),
    ),
    (
        "M14",
        "webhook ended before its effect",
        "billing/services/inbox.py",
        '        event.save(update_fields=["attempts", "not_before"])',
        '        event.status = "processed"\n        event.save()',
        (
            _AT + "test_webhooks.py::test_a_subscription_cuts_the_customers_time"
            "_and_its_invoice_freezes_it",
        ),
    ),
    (
        "M15",
        "newest wins by arrival",
        "billing/services/webhook_effects.py",
        "    return Prepared(event, kind, found, _names(bare), read_at)",
        '    found = {"status": event.type.partition(".")[2], "lines": {"data": []}, **said}\n'
        "    return Prepared(event, kind, found, _names(bare), read_at)",
        (_AT + "test_webhooks.py::test_six_events_in_any_order_and_doubled_end_in_the_same_state",),
    ),
    (
        "M16",
        "a second beat's run takes what the first has in hand",
        "billing/services/delivery_sql.py",
        "WHERE p.tenant_id = u.tenant_id AND p.id = u.id AND p.state IN ('pending', 'retry')\n"
        "RETURNING",
        "WHERE p.tenant_id = u.tenant_id AND p.id = u.id\nRETURNING",
        (_AT + "test_push_faults.py::test_two_runs_that_saw_the_same_push_due_send_it_once",),
    ),
    (
        "M17",
        "lease without fencing",
        "billing/services/delivery_sql.py",
        "  AND p.state = 'sending' AND p.token = u.token",
        "  AND p.state = 'sending'",
        (_AT + "test_push_faults.py::test_a_zombie_whose_lease_ran_out_changes_nothing",),
    ),
    (
        "M22",
        "shadow writes the live cursor",
        "billing/services/planning.py",
        "    for *key, day, intended in columns.execute(plan_sql.SLICES, keys):",
        '    keys[4] = ["live"] * len(keys[4])\n'
        "    for *key, day, intended in columns.execute(plan_sql.SLICES, keys):",
        (_AT + "test_shadow.py::test_toggling_mid_period_loses_and_repeats_nothing",),
    ),
    (
        "M28",
        "carry dropped",
        "billing/slicing.py",
        "        wanted = step.floor(total) - exact_sum",
        "        wanted = sum(map(step.floor, totals.values()), Decimal(0)) - exact_sum",
        (
            _AT
            + "test_formulas.py::test_unit_factor_and_carry_never_lose_a_fraction_over_a_rollover",
        ),
    ),
]
