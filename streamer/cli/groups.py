"""Groups of commands that say which commands they have."""

from __future__ import annotations

import click


class Commands(click.Group):
    """A group whose refusal of an unknown command lists those that there are."""

    group_class: type[click.Group] | type[type] | None = type
    """Groups in it are of the same class."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """
        The command that the first argument names, and the rest of the arguments.

        Args:
            ctx: Of the group.
            args: Of the command line, from the name on.

        Raises:
            click.UsageError: There is no such command.
        """
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(f"No such command {name!r}: expected one of {', '.join(self.list_commands(ctx))}.")
        return super().resolve_command(ctx, args)
