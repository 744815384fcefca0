// The page: it follows the address and the daemon, and draws what the model says.
//
//   daemon ──live stream──▶ api/link ──▶ model (signals) ──▶ view ──▶ screen
//   daemon ◀──requests───── api/client ◀──── what people do ──┘
import { render } from "preact";

import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/list.css";
import "./style/vm.css";
import { follow } from "./api/link";
import { followAddress } from "./model/route";
import { App } from "./view/App";

followAddress();
const root = document.getElementById("app");
if (root) render(<App />, root);
void follow();
