/* The files of the page (supervisor/tell/ui/), which are part of the program: nothing is read from disk. */
#ifndef TANDEM_UI_FILES_H
#define TANDEM_UI_FILES_H

#include "supervisor/requests/page.h"

/* The file of that name, "" being the page itself; NULL: there is none. Static. */
const struct page_file *ui_files_find(struct slice name);

#endif
