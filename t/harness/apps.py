"""The least applications, for tests of what stands around one."""

SILENT = "async def app(scope, receive, send): ...\n"

NOTES = """
from databridge import App, Model

app = App()


class Note(Model):
    text: str


app.crud_routes(Note, prefix="/notes")
"""
